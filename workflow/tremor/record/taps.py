"""Which states are recorded, and their last rows taken out of every forward."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tremor.errors import ModelError, NumericsError
from tremor.models import taps as tapping
from tremor.models.anatomy import Anatomy
from tremor.models.anatomy_trace import first_output, hidden_input
from tremor.models.loader import LoadedModel
from tremor.record.decode import Decoder, Ids, Mode

Level = Literal["final", "stages", "all"]
# Where one tensor has several names, the first of these that it has; then the shortest.
_PREFERRED = ("embedding", "final", "final_prenorm", "residual.", "mid", "mixer", "mlp")
_STAGE_ROLES = ("mixer_in", "mlp_in", "both_in")


@dataclass(frozen=True)
class Tap:
    """A recorded state.

    Attributes:
        name: As in the anatomy.
        width: Length of its vectors.
        dtype: Its type; some models keep their stream in float32 whatever type they run in.
        overwritten: Whether the model adds into the tensor after the hook has seen it (Falcon), so that a copy must be
            taken at once.
    """

    name: str
    width: int
    dtype: torch.dtype
    overwritten: bool = False


class LastRows:
    """Hooks that keep the last position of every tap in a forward.

    Args:
        anatomy: Of the model.
        names: Taps.
        rows: Rows of the batch.
        kept: Taps that nothing overwrites: of a forward over one position their tensors are kept, not copied.
    """

    def __init__(
        self, anatomy: Anatomy, names: Sequence[str], rows: int, *, kept: frozenset[str] = frozenset()
    ) -> None:
        self.values: dict[str, Tensor] = {}
        self.whole: dict[str, Tensor] | None = None  # the tensors themselves, kept while taps are being chosen
        self._rows, self._kept = rows, kept
        self._handles: list[Any] = []
        self._points = tapping.resolve(anatomy.taps, names)

    def __enter__(self) -> "LastRows":
        for name, point in self._points.items():
            if point.side == "input":
                self._handles.append(point.module.register_forward_pre_hook(self._before(name), with_kwargs=True))
            else:
                self._handles.append(point.module.register_forward_hook(self._after(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _before(self, name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._store(name, hidden_input(args, kwargs)[0])

        return hook

    def _after(self, name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            self._store(name, first_output(output))

        return hook

    def _store(self, name: str, tensor: Tensor | None) -> None:
        if tensor is None:
            return
        if tensor.ndim == 2 and tensor.shape[0] % self._rows == 0:  # OPT flattens [batch, positions]
            tensor = tensor.view(self._rows, -1, tensor.shape[-1])
        if self.whole is not None:
            self.whole.setdefault(name, tensor)
        if tensor.ndim == 3 and tensor.shape[0] == self._rows:
            last = tensor[:, -1]
            # Of a whole sequence only the row shall stay in memory.
            self.values[name] = last if tensor.shape[1] == 1 and name in self._kept else last.clone()

    def take(self) -> dict[str, Tensor]:
        """The rows of the last forward, by tap [rows, width]; the next forward starts afresh.

        Raises:
            NumericsError: a tap was not reached.
        """
        missing = [name for name in self._points if name not in self.values]
        if missing:
            raise NumericsError(f"tap(s) not reached by a forward: {', '.join(missing)}; record fewer taps")
        values, self.values = self.values, {}
        return values


def stage_names(anatomy: Anatomy) -> list[str]:
    """The stages of exp8 part 1, by their names here; blocks without a second norm have one stage less."""
    block = anatomy.block_parts[0]
    norms = [f"block.0.{name}" for name, role in block.roles.items() if role in _STAGE_ROLES]
    return ["embedding", *norms, "final_prenorm", "final"]


def choose(loaded: LoadedModel, level: Level, ids: Ids, mode: Mode) -> list[Tap]:
    """The taps of a level that this model has in this way of decoding, each tensor once, in forward order.

    Two forwards decide: one on the question, one after the next token. A tap counts if both reach it with one row for
    each position. (A cached Mamba step, for one, calls no convolution.) Two names for one tensor count once.

    Args:
        loaded: The model.
        level: "final", "stages" or "all".
        ids: Token ids of some question, int64 [positions].
        mode: How it is decoded.
    """
    anatomy = loaded.anatomy
    names = {"final": ["final"], "stages": stage_names(anatomy), "all": list(anatomy.taps)}[level]
    decoder = Decoder(loaded, [ids], mode)
    first = _look(anatomy, names, decoder, None, len(ids))
    second = _look(anatomy, names, decoder, ids[-1:], len(ids) + 1 if mode == "uncached" else 1)
    found = [name for name in second if name in first]
    if "final" not in found:
        raise ModelError("the forward does not reach the tap 'final', without which nothing can be recorded")
    kept = _one_name_each(found, first)
    return [_tap(name, first[name], second[name]) for name in found if name in kept]


def _tap(name: str, *seen: tuple[Tensor, Tensor]) -> Tap:
    tensor = seen[-1][0]
    changed = any(not torch.equal(whole[:, -1], row) for whole, row in seen)
    return Tap(name, int(tensor.shape[-1]), tensor.dtype, overwritten=changed)


Seen = dict[str, tuple[Tensor, Tensor]]  # tap -> the tensor itself, and its last row when the hook saw it


def _look(anatomy: Anatomy, names: Sequence[str], decoder: Decoder, chosen: Any, positions: int) -> Seen:
    with LastRows(anatomy, names, 1) as hooks:
        hooks.whole = {}
        decoder(chosen)
    return {
        name: (tensor, hooks.values[name])
        for name, tensor in hooks.whole.items()
        if tensor.ndim == 3 and tensor.shape[:2] == (1, positions) and tensor.is_floating_point()
    }


def _one_name_each(names: Sequence[str], seen: Seen) -> set[str]:
    """One name for every tensor: names share it if they saw one piece of memory (held until now) with one content."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name in names:
        tensor, row = seen[name]
        content = row.contiguous().view(torch.uint8).cpu().numpy().tobytes()
        groups.setdefault((tensor.data_ptr(), tensor.numel(), tensor.dtype, content), []).append(name)
    return {min(group, key=_rank) for group in groups.values()}


def _rank(name: str) -> tuple[int, int, str]:
    last = name.rsplit(".", 1)[-1]
    for place, start in enumerate(_PREFERRED):
        if name == start or last == start or (start.endswith(".") and name.startswith(start)):
            return place, len(name), name
    return len(_PREFERRED) + name.endswith(".input"), len(name), name
