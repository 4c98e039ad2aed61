"""One traced forward: which module was called by which, with what, in what order.

The anatomy of a model is read from this record and not from the names of its modules, so that a family nobody
has seen before is either understood or refused, never guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

# Keywords under which transformers passes the hidden state; other floating keywords are masks and rotations.
_HIDDEN_NAMES = ("hidden_states", "hidden", "inputs_embeds", "x")


@dataclass(eq=False)
class Call:
    """One call of one module.

    Attributes:
        name: Full name of the module in the traced model.
        module: The module.
        parent: The call during which this one happened, None for the outermost.
        args: Positional arguments as passed.
        kwargs: Keyword arguments as passed.
        input: Copy of the hidden state it was given, None if there is none.
        output: Copy of the first tensor it returned, None if there is none.
        input_name: Keyword of the hidden state, None when it is the first positional tensor.
        raw: The first tensor it returned itself; work that followed may have changed it in place.
    """

    name: str
    module: nn.Module
    parent: "Call | None"
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    input: Tensor | None
    input_name: str | None
    output: Tensor | None = None
    raw: Tensor | None = None
    children: list["Call"] = field(default_factory=list)

    def descendants(self) -> list["Call"]:
        """All calls made during this one, in order of entry."""
        found: list[Call] = []
        for child in self.children:
            found.append(child)
            found.extend(child.descendants())
        return found


def hidden_input(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor | None, str | None]:
    """Find the hidden state among a module's arguments.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.

    Returns:
        The tensor and its keyword; the keyword is None when the tensor came by position.
    """
    for value in args:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value, None
    for name in _HIDDEN_NAMES:
        value = kwargs.get(name)
        if isinstance(value, Tensor) and value.is_floating_point():
            return value, name
    return None, None


def first_output(output: Any) -> Tensor | None:
    """The hidden state among a module's outputs: the output itself, or the first of a tuple or mapping."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        return first_output(next(iter(output.values()), None))
    if isinstance(output, (tuple, list)) and output:
        return first_output(output[0])
    return None


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two tensors hold the same values in the same order; shapes may differ by a view."""
    if a is None or b is None or a.numel() != b.numel() or a.dtype != b.dtype:
        return False
    return bool(torch.equal(a.reshape(-1), b.reshape(-1).to(a.device)))


def feeds(giver: Call, taker: Call) -> bool:
    """Whether a call was given the very tensor that another returned."""
    return giver.raw is not None and hidden_input(taker.args, taker.kwargs)[0] is giver.raw


class Tracer:
    """Context manager that records every module call of a model.

    Args:
        model: The model to trace; hooks are removed on exit, also after an exception.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._stack: list[Call] = []
        self._handles: list[Any] = []
        self.calls: list[Call] = []

    def __enter__(self) -> "Tracer":
        for name, module in self._model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._enter(name), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _enter(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden, keyword = hidden_input(args, kwargs)
            # Copies, because some blocks (Falcon) add into a branch's output in place.
            copy = None if hidden is None else hidden.detach().clone()
            parent = self._stack[-1] if self._stack else None
            call = Call(name, module, parent, args, dict(kwargs), copy, keyword)
            if parent is not None:
                parent.children.append(call)
            self._stack.append(call)
            self.calls.append(call)

        return hook

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = self._stack.pop()
        tensor = first_output(output)
        call.raw = tensor
        call.output = None if tensor is None else tensor.detach().clone()

    def of(self, module: nn.Module) -> list[Call]:
        """All calls of one module, in order."""
        return [call for call in self.calls if call.module is module]
