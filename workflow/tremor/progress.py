"""Progress of long loops: a bar on a terminal and in a notebook, a log line now and then elsewhere."""

import importlib.util
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Self, TypeVar, overload

LOG_INTERVAL_S = 30.0
NOTEBOOK_DELAY_S = 2.0  # a bar that comes and goes at once would only stay as an empty line
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Progress:
    """Counts work done.

    Args:
        total: items in all; None if unknown.
        description: what is counted, in the plural ("rays").

    Example:
        with Progress(1000, "rays") as progress:
            progress.advance(64)
    """

    def __init__(self, total: int | None, description: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.description, self.done = total, description, 0
        self._clock = clock
        self._started = self._reported = clock()
        self._bar = _bar(total, description)

    def advance(self, count: int = 1) -> None:
        """Note that `count` more items are done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
            return
        now = self._clock()
        if now - self._reported >= LOG_INTERVAL_S:
            self._reported = now
            _log.info("%s", self.line(now))

    def line(self, now: float) -> str:
        """One line: done, total, rate, remaining time."""
        elapsed = max(now - self._started, 1e-9)
        rate = self.done / elapsed
        if self.total is None:
            return f"{self.description}: {self.done} done, {rate:.3g}/s"
        left = f"{(self.total - self.done) / rate:.0f} s left" if self.done else "time left unknown"
        return f"{self.description}: {self.done} of {self.total} done, {rate:.3g}/s, {left}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None and self._reported != self._started:
            _log.info("%s", self.line(self._clock()))


def _in_notebook() -> bool:
    """Whether what is written to stderr appears below a cell."""
    return type(sys.stderr).__module__.partition(".")[0] == "ipykernel"


def _bar(total: int | None, description: str) -> Any:
    notebook = _in_notebook()
    if not notebook and not sys.stderr.isatty():
        return None
    try:
        # Without widgets the notebook's own bar would only warn; a bar of text does there too.
        if notebook and importlib.util.find_spec("ipywidgets"):
            from tqdm.auto import tqdm
        else:
            from tqdm import tqdm
    except ModuleNotFoundError:  # log lines tell the same
        return None
    return tqdm(total=total, desc=description, leave=False, delay=NOTEBOOK_DELAY_S if notebook else 0.0)


@overload
def track(work: int, description: str) -> Iterator[int]: ...
@overload
def track(work: Iterable[T], description: str) -> Iterator[T]: ...
def track(work: Iterable[Any] | int, description: str) -> Iterator[Any]:
    """Iterate and report progress.

    Args:
        work: the items, or a number n for 0 .. n-1.
        description: what is counted, in the plural.

    Yields:
        The items.
    """
    items: Iterable[Any] = range(work) if isinstance(work, int) else work
    with Progress(len(items) if isinstance(items, Sized) else None, description) as progress:
        for item in items:
            yield item
            progress.advance()
