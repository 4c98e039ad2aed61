"""Between Snakemake and the library: the `snakemake` object becomes plain values, logging, an exit status.

The only module that knows Snakemake's objects. A script ends with

    if "snakemake" in globals():
        job.main(run, snakemake)  # noqa: F821
"""

import hashlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, NoReturn

from tremor import memory
from tremor.errors import ConfigError, TremorError
from tremor.store import scratch

_log = logging.getLogger(__name__)
_RESERVED = ("threads", "resources", "wildcards")


class Inputs(SimpleNamespace):
    """Input files by name: a `Path`, or a list of them."""


class Outputs(SimpleNamespace):
    """Output files by name: a `Path`, or a list of them."""


class Params(SimpleNamespace):
    """Parameters by name as plain Python values, and `threads`, `resources`, `wildcards`."""


Run = Callable[[Any, Any, Any], object]


def unpack(snakemake: Any) -> tuple[Inputs, Params, Outputs]:
    """Plain values of a script's `snakemake` object, detached from it.

    Args:
        snakemake: the object Snakemake puts into a script's globals.

    Returns:
        Inputs, params and outputs as attributes.

    Raises:
        ConfigError: a file without a name, a parameter with a reserved name, or one that is not plain data.
    """
    rule = str(getattr(snakemake, "rule", "?"))
    params = {name: _plain(value, f"{rule}.params.{name}") for name, value in _items(snakemake.params, "params", rule)}
    for name in _RESERVED:
        if name in params:
            raise ConfigError(f"rule {rule}: a parameter cannot be called {name!r}, rename it")
    resources = dict(_items(getattr(snakemake, "resources", {}), "resources", rule))
    wildcards = dict(_items(getattr(snakemake, "wildcards", {}), "wildcards", rule))
    return (
        Inputs(**_files(snakemake.input, "input", rule)),
        Params(
            **params,
            threads=int(getattr(snakemake, "threads", 1)),
            resources=SimpleNamespace(**{k: _plain(v, k) for k, v in resources.items() if not k.startswith("_")}),
            wildcards=SimpleNamespace(**{k: str(v) for k, v in wildcards.items()}),
        ),
        Outputs(**_files(snakemake.output, "output", rule)),
    )


def _items(container: Any, what: str, rule: str) -> list[tuple[str, Any]]:
    """Named items of one of Snakemake's lists; every item must have a name."""
    named = [(str(name), value) for name, value in container.items()]
    if isinstance(container, list):
        # A name may stand for several consecutive items, which Snakemake then gives as a list.
        count = sum(len(value) if isinstance(value, list) and what != "resources" else 1 for _, value in named)
        if count < len(container):
            raise ConfigError(f"rule {rule}: {len(container) - count} item(s) of {what} have no name, name them")
    return named


def _files(container: Any, what: str, rule: str) -> dict[str, Path | list[Path]]:
    return {
        name: [Path(str(item)) for item in value] if isinstance(value, (list, tuple)) else Path(str(value))
        for name, value in _items(container, what, rule)
    }


def _plain(value: Any, where: str) -> Any:
    """A deep copy in terms of dict, list, str, bool, int, float and None."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(key, where): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    raise ConfigError(f"{where} is a {type(value).__name__}; parameters are numbers, text, lists and mappings")


def main(run: Run, snakemake: Any) -> None:
    """Run a script's function as a job.

    Messages and warnings go to the rule's log file and to stderr. An error of Tremor's own ends the job with
    status 1 and one line `error: ...`; its traceback is in the log file. Any other exception is a defect:
    logged and raised again. Where memory runs out for batches whose size is up to Tremor, the job starts again with
    smaller ones. A resource `scratch`, which a profile may set for all rules, names a folder of the node in which large
    artifacts grow (`tremor.store.scratch`).

    Args:
        run: the script's `run(inputs, params, outputs)`.
        snakemake: the object Snakemake puts into a script's globals.

    Raises:
        SystemExit: with status 1 after an error, 143 when the job is terminated.
    """
    log = list(getattr(snakemake, "log", []) or [])
    with _logging(Path(str(log[0])) if log else None), _termination_raises():
        try:
            resources = dict(_items(getattr(snakemake, "resources", {}), "resources", "?"))
            scratch.use(resources.get("scratch"))
            memory.restarting(lambda: run(*unpack(snakemake)))
        except TremorError as error:
            _log.debug("traceback of the error below", exc_info=True)
            # One line, whatever the message holds: Snakemake prints it among the output of other jobs.
            _log.error("%s", " ".join(str(error).split()))
            raise SystemExit(1) from None
        except Exception:
            _log.debug("the job stopped on a defect", exc_info=True)
            raise


def listed(value: Path | list[Path]) -> list[Path]:
    """A named input or output as a list; Snakemake gives a single file where a list of one was declared."""
    return value if isinstance(value, list) else [value]


def provenance(inputs: Inputs, params: Params) -> dict[str, Any]:
    """What a job's artifacts say of their making: its params, its code, and the digests of its input files.

    Args:
        inputs: from `unpack`.
        params: from `unpack`; a param `code` is the digest of the library.

    Returns:
        Keyword arguments `config`, `code` and `inputs` of `tremor.store.provenance.collect`.
    """
    digests = {}
    for value in vars(inputs).values():
        for path in listed(value):
            if path.is_dir():  # a model's folder: its manifest, which holds the digests, is an input too
                continue
            with path.open("rb") as file:
                digests[path.as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    left_out = (*_RESERVED, "code", "directory", "rows")
    config = {name: value for name, value in vars(params).items() if name not in left_out}
    config["wildcards"] = dict(vars(params.wildcards))
    return {"config": config, "code": str(getattr(params, "code", "")), "inputs": digests}


class _Console(logging.Formatter):
    """`error: ...` and `warning: ...`, plain text for the rest, never a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        mark = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return mark + record.getMessage()


class _NoDebug(logging.Filter):
    """Debug messages of Tremor only: other libraries tell of every font they look at."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or record.name.partition(".")[0] == "tremor"


class _LogFile(logging.FileHandler):
    """A rule's log. Where the disk refuses it, the same messages on stderr must do: they may be about that disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Print no traceback over the message that could not be written."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file, whether or not what is left in its buffer can be written."""
        with suppress(OSError):
            super().close()


def _log_file(path: Path) -> logging.FileHandler | None:
    """The handler of a rule's log file; None, with a warning, where no file can be opened."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _LogFile(path, mode="w", encoding="utf-8")
    except OSError as error:
        _log.warning("cannot write the log %s (%s); its messages are shown here alone", path, error.strerror)
        return None
    form = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    file.setFormatter(form)
    file.addFilter(_NoDebug())
    return file


@contextmanager
def _logging(path: Path | None) -> Iterator[None]:
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(_Console())
    console.setLevel(logging.INFO)
    handlers: list[logging.Handler] = [console]
    root, ours = logging.getLogger(), logging.getLogger("tremor")
    levels = root.level, ours.level
    root.setLevel(logging.INFO)
    ours.setLevel(logging.DEBUG)
    root.addHandler(console)
    file = None if path is None else _log_file(path)
    if file is not None:
        handlers.append(file)
        root.addHandler(file)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


@contextmanager
def _termination_raises() -> Iterator[None]:
    """A job that is terminated (Ctrl-C, time limit) unwinds, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
