"""What a decoder block is made of: its mixer, MLP and norms, and the slices of fused parameters."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from tremor.models.taps import TapPoint

MixerKind = Literal["attention", "ssm", "recurrent"]


@dataclass(frozen=True)
class Slice:
    """The scalars of one projection inside a parameter that may hold several.

    Attributes:
        parameter: Name in `model.named_parameters()`.
        axis: Axis of the parameter that counts output features.
        index: Which of these belong to the projection: a slice, or an int64 tensor [n].
        bias: Name of the bias with the same output features on its last axis, None without bias.
    """

    parameter: str
    axis: int
    index: slice | Tensor
    bias: str | None = None

    def take(self, tensor: Tensor) -> Tensor:
        """Select from the parameter: a view for a slice, a copy for an index tensor."""
        return _take(tensor, self.axis, self.index)

    def take_bias(self, tensor: Tensor) -> Tensor:
        """Select from the bias."""
        return _take(tensor, tensor.ndim - 1, self.index)

    def within(self, prefix: str) -> "Slice":
        """The same slice with `prefix` put before the parameter names."""
        bias = None if self.bias is None else prefix + self.bias
        return Slice(prefix + self.parameter, self.axis, self.index, bias)


def _take(tensor: Tensor, axis: int, index: slice | Tensor) -> Tensor:
    if isinstance(index, slice):
        start, stop, step = index.indices(tensor.shape[axis])
        if step == 1:
            return tensor.narrow(axis, start, stop - start)
        return tensor[(slice(None),) * axis + (index,)]
    return tensor.index_select(axis, index.to(tensor.device))


@dataclass(frozen=True)
class Projections:
    """Parameters of a block by their part in the computation; None where the block has no such part.

    Attributes:
        q: Query; with the gate of the heads' output where one projection makes both (Qwen 3.5).
        k: Key.
        v: Value; None too where keys and values come from one projection.
        o: Output projection of the mixer.
        gate: The MLP's projection that goes through the activation, where another one multiplies it.
        up: The MLP's input projection.
        down: The MLP's output projection.
    """

    q: Slice | None = None
    k: Slice | None = None
    v: Slice | None = None
    o: Slice | None = None
    gate: Slice | None = None
    up: Slice | None = None
    down: Slice | None = None

    def within(self, prefix: str) -> "Projections":
        """The same projections with `prefix` put before the parameter names."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Projections(**{n: None if p is None else p.within(prefix) for n, p in parts.items()})


@dataclass(frozen=True)
class BlockParts:
    """One decoder block.

    Attributes:
        index: Position of the block, from 0.
        name: Full name of the block in the model.
        module: The block.
        mixer: The module that moves information between positions.
        mixer_kind: "attention", "ssm" (Mamba, gated DeltaNet) or "recurrent" (RWKV and others).
        mlp: The MLP: no module, one module, or the two linears that OPT calls by themselves.
        norms: Norms called by the block itself, by name.
        roles: What each norm is for: "mixer_in", "mlp_in", "both_in", "mixer_out", "mlp_out", "residual" (it
            norms the stream itself, at the end of the block) or "other".
        parallel: Whether the MLP reads the block's input rather than what the mixer made of it.
        projections: Slices of parameters.
        scale: Factor on the whole stream at the block's end, 1 for most (Gemma 4 learns one).
        router: The module that chooses experts, None for a dense MLP.
        experts: The module that holds the experts' weights, None for a dense MLP.
        n_experts: Number of experts, 0 for a dense MLP.
        taps: Taps of this block, names without the prefix "block.k.".
    """

    index: int
    name: str
    module: nn.Module
    mixer: nn.Module
    mixer_kind: MixerKind
    mlp: tuple[nn.Module, ...]
    norms: dict[str, nn.Module]
    roles: dict[str, str]
    parallel: bool
    projections: Projections
    scale: float = 1.0
    router: nn.Module | None = None
    experts: nn.Module | None = None
    n_experts: int = 0
    taps: dict[str, TapPoint] = field(default_factory=dict)

    @property
    def q(self) -> Slice | None:
        """Query projection."""
        return self.projections.q

    @property
    def k(self) -> Slice | None:
        """Key projection."""
        return self.projections.k

    @property
    def v(self) -> Slice | None:
        """Value projection."""
        return self.projections.v

    @property
    def o(self) -> Slice | None:
        """Output projection of the mixer."""
        return self.projections.o

    @property
    def gate(self) -> Slice | None:
        """Gate projection of the MLP or of all its experts."""
        return self.projections.gate

    @property
    def up(self) -> Slice | None:
        """Up (input) projection of the MLP or of all its experts."""
        return self.projections.up

    @property
    def down(self) -> Slice | None:
        """Down (output) projection of the MLP or of all its experts."""
        return self.projections.down
