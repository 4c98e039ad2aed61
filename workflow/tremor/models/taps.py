"""Taps: named places in a model whose tensors are recorded during a forward."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from tremor.errors import ModelError, NumericsError
from tremor.models.anatomy_trace import first_output, hidden_input

Side = Literal["input", "output"]


@dataclass(frozen=True)
class TapPoint:
    """Where a named tensor can be read.

    Attributes:
        module: The module to hook.
        side: Whether the tensor is the hidden state given to the module, or the first tensor it returns.
    """

    module: nn.Module
    side: Side


def resolve(points: Mapping[str, TapPoint], names: Iterable[str]) -> dict[str, TapPoint]:
    """Look tap names up.

    Args:
        points: All taps of a model.
        names: The names wanted.

    Returns:
        The wanted part of `points`, in the order asked for.

    Raises:
        ModelError: If a name is no tap of this model.
    """
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in points:
            near = [known for known in points if known.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
            known = ", ".join(sorted(near)[:4] or list(points)[:6])
            raise ModelError(f"tap '{name}' does not exist in this model; taps are, among others: {known}")
    return {name: points[name] for name in wanted}


class _Recorder:
    """Hooks of one recording; the tensors land in `values`."""

    def __init__(self, detach: bool) -> None:
        self.values: dict[str, Tensor] = {}
        self.handles: list[Any] = []
        self._detach = detach
        self._shape: tuple[int, ...] | None = None

    def store(self, name: str, tensor: Tensor | None) -> None:
        """Keep a copy: Falcon adds into a branch's output in place after the hook has seen it."""
        if tensor is None:
            return
        # OPT flattens [batch, positions] inside its blocks; taps have the shape of the residual stream.
        shape = self._shape
        if shape is not None and tensor.ndim == 2 and len(shape) == 2 and tensor.shape[0] == shape[0] * shape[1]:
            tensor = tensor.view(*shape, tensor.shape[-1])
        self.values[name] = (tensor.detach() if self._detach else tensor).clone()

    def watch_shape(self, block: nn.Module) -> None:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden, _ = hidden_input(args, kwargs)
            self._shape = None if hidden is None else tuple(hidden.shape[:-1])

        self.handles.append(block.register_forward_pre_hook(hook, with_kwargs=True))

    def watch(self, name: str, point: TapPoint) -> None:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.store(name, hidden_input(args, kwargs)[0])

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self.store(name, first_output(output))

        if point.side == "input":
            self.handles.append(point.module.register_forward_pre_hook(before, with_kwargs=True))
        else:
            self.handles.append(point.module.register_forward_hook(after))

    def watch_embeds(self, name: str, module: nn.Module) -> None:
        """A forward given `inputs_embeds` never calls the embedding module: read the keyword instead."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            embeds = kwargs.get("inputs_embeds")
            if isinstance(embeds, Tensor):
                self.store(name, embeds)

        self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))


@contextmanager
def record(
    points: Mapping[str, TapPoint],
    *,
    first_block: nn.Module,
    embeds_at: Iterable[nn.Module] = (),
    detach: bool = True,
) -> Iterator[dict[str, Tensor]]:
    """Record taps during the forwards made inside the context.

    Args:
        points: Taps to record.
        first_block: The first block, whose input tells the shape [batch, positions].
        embeds_at: Modules that may be given `inputs_embeds`, for the tap "embedding".
        detach: Whether to cut the copies from the autograd graph.

    Yields:
        Tap name to tensor [batch, positions, width]; a later forward in the same context overwrites.

    Raises:
        NumericsError: On leaving normally, if a tap was not reached by any forward.
    """
    recorder = _Recorder(detach)
    try:
        recorder.watch_shape(first_block)
        for name, point in points.items():
            recorder.watch(name, point)
            if name == "embedding":
                for module in embeds_at:
                    recorder.watch_embeds(name, module)
        yield recorder.values
    finally:
        for handle in recorder.handles:
            handle.remove()
    missing = [name for name in points if name not in recorder.values]
    if missing:
        raise NumericsError(
            f"tap(s) not reached by the forward: {', '.join(missing)}; a fused kernel may bypass the module, "
            "or no forward was run inside the context"
        )
