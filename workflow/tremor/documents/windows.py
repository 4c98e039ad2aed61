"""Windows over a long text: every token is scored once, with as much context as its window has (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass

from tremor.errors import ConfigError, PromptError


@dataclass(frozen=True)
class Window:
    """Inputs of one forward and what of its answer is used.

    Attributes:
        start: First token of the text that is read.
        stop: Token behind the last one that is read; the last input predicts it.
        first: First token that is scored.
        last: Last token that is scored: `stop`.
    """

    start: int
    stop: int
    first: int
    last: int


def plan(tokens: int, *, window: int, stride: int, bos: bool) -> list[Window]:
    """Cut a text into windows.

    The first window scores all it can; each further one ends `stride` tokens later and scores only those. So every
    token is predicted from all tokens before it, or from `window` - `stride` or more of them (without counting the
    begin-of-text token). The last window begins earlier rather than being shorter.

    Args:
        tokens: Number of tokens of the text, without a begin-of-text token.
        window: Inputs of a forward, with the begin-of-text token.
        stride: Tokens scored by a window after the first.
        bos: Whether every window begins with a begin-of-text token.

    Returns:
        Windows in order; together they score every token once, but for the first token where there is no `bos`.

    Raises:
        ConfigError: the stride is not from 1 to half a window.
        PromptError: nothing can be scored.
    """
    if not 1 <= stride <= window // 2:
        raise ConfigError(f"pdf.stride is {stride}; with a window of {window} tokens choose 1 to {window // 2}")
    if tokens < (1 if bos else 2):
        raise PromptError(f"the document has {tokens} token(s) and no begin-of-text token: nothing predicts anything")
    room = window - bos
    last = min(room, tokens - 1)
    windows = [Window(0, last, 0 if bos else 1, last)]
    while last < tokens - 1:
        first, last = last + 1, min(last + stride, tokens - 1)
        windows.append(Window(last - room, last, first, last))
    return windows


def batches(windows: Sequence[Window], size: int) -> list[list[Window]]:
    """Windows in groups of one size, for a forward each; the last group is filled up with its last window.

    A fixed shape keeps the arithmetic of every window the same. All windows are equally long: a shorter one is alone.

    Args:
        windows: From :func:`plan`.
        size: Windows in a group, at most.
    """
    size = min(size, len(windows))
    groups = [list(windows[start : start + size]) for start in range(0, len(windows), size)]
    groups[-1] += [groups[-1][-1]] * (size - len(groups[-1]))
    return groups
