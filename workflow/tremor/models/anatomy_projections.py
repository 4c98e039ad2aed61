"""Which scalars of a block's parameters are query, key, value, gate and up: found by experiment, not by name.

Fused projections are laid out differently in every family (GPT-2 one after the other, GPT-NeoX and BLOOM
interleaved by head, Falcon grouped, CodeGen in four shards). Instead of a table of layouts, the mixer is run
on a random input:

* a query channel of an earlier position has no influence on the last position;
* a value channel reaches exactly one coordinate of each head that reads it;
* a key channel, acting through the softmax, reaches all coordinates of a head.

So the gradients of the even and of the odd coordinates of the heads tell the three apart, with exact zeros. Where
values are normed (Gemma 4) they reach whole heads too; then the mixer is run on one hidden state at all positions:
attention is a mean of equal values, which no key can move. A gate on what the heads give (Qwen 3.5) reaches the last
position alone, as queries do: where one projection makes both, it is the query projection.
Likewise the output of a gated MLP is affine in its up projection and not in its gate.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from tremor.models.anatomy_parts import Projections, Slice
from tremor.models.anatomy_trace import Call, same

# An affine function evaluated at scales 0, 1/2 and 1 has a second difference of some float32 roundings (1e-7
# each, a few hundred terms); the curvature of an activation is far larger unless its argument is below 1e-3.
_AFFINE = 1e-4
# A mean of equal values moves by roundings (1e-7) when its weights do; by the weights' own size otherwise.
_STILL = 1e-3


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a matrix product with an optional bias: nn.Linear, or GPT-2's transposed Conv1D."""
    return isinstance(module, (nn.Linear, Conv1D))


def whole(call: Call, prefix: str) -> Slice:
    """The slice of all output features of a linear module, named relative to `prefix`."""
    return _slice(call, prefix, slice(0, _features(call.module)))


def _features(module: nn.Module) -> int:
    assert isinstance(module, (nn.Linear, Conv1D))
    return int(module.weight.shape[1] if isinstance(module, Conv1D) else module.weight.shape[0])


def _inputs(module: nn.Module) -> int:
    assert isinstance(module, (nn.Linear, Conv1D))
    return int(module.weight.shape[0] if isinstance(module, Conv1D) else module.weight.shape[1])


def _slice(call: Call, prefix: str, index: slice | Tensor) -> Slice:
    name = call.name.removeprefix(prefix)
    name = f"{name}." if name else ""
    bias = f"{name}bias" if getattr(call.module, "bias", None) is not None else None
    return Slice(f"{name}weight", 1 if isinstance(call.module, Conv1D) else 0, index, bias)


def _compact(channels: Tensor) -> slice | Tensor:
    """Turn a mask of channels [n] into a slice if they are contiguous, else into an index tensor."""
    index = channels.nonzero().flatten()
    first, last = int(index[0]), int(index[-1])
    return slice(first, last + 1) if last - first + 1 == len(index) else index.cpu()


def _at_least_float32(value: Any) -> Any:
    """Cast floating tensors to float32 where narrower, also inside tuples and dicts, and cut them from the graph.

    Float64 stays: a module in true float64 takes nothing else.
    """
    if isinstance(value, Tensor):
        wide = torch.promote_types(value.dtype, torch.float32)
        return value.detach().to(wide) if value.is_floating_point() else value
    if isinstance(value, tuple):
        return tuple(_at_least_float32(item) for item in value)
    if isinstance(value, dict):
        return {name: _at_least_float32(item) for name, item in value.items()}
    return value


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers in float32 or float64; no copies where they are that already."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: _at_least_float32(tensor) for name, tensor in tensors.items()}


def _replay(call: Call, state: dict[str, Tensor], hidden: Tensor | None = None) -> Any:
    """Call a module again with other weights and, if given, another hidden state."""
    args, kwargs = _at_least_float32(call.args), _at_least_float32(call.kwargs)
    if hidden is not None and call.input_name is not None:
        kwargs[call.input_name] = hidden
    elif hidden is not None:
        place = next(i for i, a in enumerate(args) if isinstance(a, Tensor) and a.is_floating_point())
        args = (*args[:place], hidden, *args[place + 1 :])
    return functional_call(call.module, state, args, kwargs)


def output_linear(call: Call, width: int) -> Call | None:
    """The last linear module called in a branch, if it writes the width of the residual stream."""
    linears = [c for c in call.descendants() if is_linear(c.module)]
    if not linears or _features(linears[-1].module) != width:
        return None
    return linears[-1]


def _readers(call: Call) -> list[Call]:
    """Linear modules of a branch that read the branch's own input."""
    return [c for c in call.descendants() if is_linear(c.module) and same(c.input, call.input)]


def _influence(
    call: Call, readers: list[Call], out: Call, head_width: int, *, alike: bool = False, first: bool = False
) -> list[Tensor]:
    """How channels at the last position but one reach the heads at the last position.

    Args:
        call: The mixer's call.
        readers: Linear modules that read its input.
        out: The linear module that reads the heads.
        head_width: Coordinates of one head.
        alike: Whether all positions are given one hidden state.
        first: Whether channels and heads at the first position are asked for instead, which sees no other.

    Returns:
        For each reader the gradient's magnitude [2, channels]: of even (first row), odd coordinates of heads.
    """
    assert call.input is not None
    generator = torch.Generator().manual_seed(0)

    def random(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    state = _state(call.module)
    for name, tensor in state.items():
        # Random weights of moderate size: the key gradient of a trained, saturated softmax may be zero.
        if tensor.ndim == 2 and tensor.is_floating_point() and name.endswith("weight"):
            state[name] = random(tensor) / tensor.shape[-1] ** 0.5
    leaves: list[Tensor] = [torch.empty(0)] * len(readers)
    heads: list[Tensor] = []
    handles: list[Any] = []

    def cut(place: int) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            leaves[place] = output.detach().requires_grad_()
            return leaves[place]

        return hook

    try:
        for place, reader in enumerate(readers):
            handles.append(reader.module.register_forward_hook(cut(place)))
        handles.append(out.module.register_forward_pre_hook(lambda module, args: heads.append(args[0])))
        with torch.enable_grad():
            hidden = random(_at_least_float32(call.input))
            _replay(call, state, hidden[..., -1:, :].expand_as(hidden).contiguous() if alike else hidden)
            last = heads[-1].reshape(-1, heads[-1].shape[-1])[0 if first else -1]
            odd = (torch.arange(len(last), device=last.device) % head_width) % 2 == 1
            weights = torch.rand(len(last), generator=generator).to(last.device) + 0.5
            rows = []
            for side in (~odd, odd):
                total = (last * weights * side).sum()
                grads = torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True)
                rows.append([torch.zeros_like(x) if g is None else g for g, x in zip(grads, leaves, strict=True)])
    finally:
        for handle in handles:
            handle.remove()
    place = 0 if first else -2
    return [
        torch.stack([grad.reshape(-1, grad.shape[-1])[place].abs() for grad in pair])
        for pair in zip(*rows, strict=True)
    ]


def attention(call: Call, prefix: str, *, width: int, n_heads: int) -> Projections | None:
    """Find query, key, value and output projections of a mixer.

    Args:
        call: The traced call of the mixer, with at least two positions.
        prefix: Full name of the block with a final dot; names in the result are relative to it.
        width: Width of the residual stream.
        n_heads: Number of query heads.

    Returns:
        The projections, or None if the mixer does not behave like attention.
    """
    readers, out = _readers(call), output_linear(call, width)
    if not readers or out is None:
        return None
    width_of_head = max(1, _inputs(out.module) // n_heads)
    reach = _influence(call, readers, out, width_of_head)
    found: dict[str, Slice] = {}
    wide = [r for r, sides in zip(readers, reach, strict=True) if bool((sides != 0).all())]
    blurred = not any(bool(((sides != 0).sum(0) == 1).any()) for sides in reach)
    if blurred:
        alone = [float(sides.norm()) for sides in _influence(call, readers, out, width_of_head, first=True)]
        asked = [size for reader, size in zip(readers, alone, strict=True) if reader not in wide]
        if any(size > _STILL * max(alone) for size in asked):  # one position's attention is 1, whatever is asked
            return None
        found = {part: whole(r, prefix) for part, r in _normed_values(call, wide, out, width_of_head).items()}
    for reader, sides in zip(readers, reach, strict=True):
        if blurred and reader in wide:
            continue
        count = (sides != 0).sum(0)
        for part, wanted in (("q", 0), ("v", 1), ("k", 2)):
            channels = count == wanted
            if not bool(channels.any()):
                continue
            if part in found:
                return None
            found[part] = _slice(reader, prefix, _compact(channels))
    if set(found) != {"q", "k", "v"} and not (blurred and set(found) == {"q", "k"}):
        return None
    return Projections(**found, o=whole(out, prefix))


def _normed_values(call: Call, readers: list[Call], out: Call, head_width: int) -> dict[str, Call]:
    """Tell keys from values where both reach whole heads, because values are normed.

    Returns:
        "k" and "v"; only "k" where one projection makes both; nothing if the mixer does not behave like attention.
    """
    if len(readers) not in (1, 2):
        return {}
    sizes = [float(g.norm()) for g in _influence(call, readers, out, head_width, alike=True)]
    still = [size <= _STILL * max(sizes) for size in sizes]
    if len(readers) == 1 and sizes[0] > 0:
        return {"k": readers[0]}
    if len(readers) == 2 and sum(still) == 1:
        return {"k": readers[still.index(True)], "v": readers[still.index(False)]}
    return {}


def _moderate(name: str, tensor: Tensor, call: Call, generator: torch.Generator) -> Tensor:
    """Random weights or biases that give the module's input features of size one.

    Trained weights may drive an activation into its flat part, or past the clamp of GPT-OSS.
    """
    assert call.input is not None
    noise = torch.randn(tensor.shape, generator=generator).to(tensor)
    if name.endswith("bias"):
        return 0.3 * noise
    return noise / max(float(call.input.float().norm(dim=-1).max()), 1e-30)


def _curvature(call: Call, names: list[tuple[str, int]], index: slice, output: Callable[[Any], Tensor]) -> float:
    """How far a module is from affine in some output features of some of its parameters.

    Args:
        call: The traced call.
        names: Parameters (relative to the module) and the axis that counts output features.
        index: The features to scale.
        output: Takes the tensor to look at from what the module returned.

    Returns:
        The second difference over scales 0, 1/2, 1, relative to the largest value.
    """
    values = []
    for scale in (0.0, 0.5, 1.0):
        state = _state(call.module)
        generator = torch.Generator().manual_seed(0)
        for name, axis in names:
            state[name] = _moderate(name, state[name], call, generator)
            mask = torch.ones(state[name].shape[axis], device=state[name].device)
            mask[index] = scale
            shape = [1] * state[name].ndim
            shape[axis] = -1
            state[name] = state[name] * mask.reshape(shape)
        with torch.no_grad():
            values.append(output(_replay(call, state)))
    size = max(float(value.abs().max()) for value in values)
    return float((values[0] - 2 * values[1] + values[2]).abs().max()) / size if size else 0.0


def _first(result: Any) -> Tensor:
    tensor = result[0] if isinstance(result, tuple) else result
    assert isinstance(tensor, Tensor)
    return tensor


def _halves(call: Call, names: list[tuple[str, int]], size: int) -> tuple[slice, slice] | None:
    """Tell gate from up inside one fused projection of `size` features; None if no layout makes sense."""
    half = size // 2
    chunks = (slice(0, half), slice(half, size))
    strided = (slice(0, size, 2), slice(1, size, 2))
    for gate, up in (chunks, chunks[::-1], strided, strided[::-1]):
        if _curvature(call, names, up, _first) < _AFFINE <= _curvature(call, names, gate, _first):
            return gate, up
    return None


def dense_mlp(call: Call, prefix: str, *, width: int) -> Projections:
    """Find gate, up and down projections of a dense MLP.

    Args:
        call: The traced call of the MLP.
        prefix: Full name of the block with a final dot.
        width: Width of the residual stream.

    Returns:
        The projections that could be told apart; all None if the MLP does not end in a projection.
    """
    readers, down = _readers(call), output_linear(call, width)
    if down is None or not readers:
        return Projections()
    inputs = _inputs(down.module)
    names = [
        [
            (name.removeprefix(call.name + "."), axis)
            for name, axis in (
                (f"{r.name}.weight", 1 if isinstance(r.module, Conv1D) else 0),
                (f"{r.name}.bias", 0),
            )
            if not name.endswith(".bias") or getattr(r.module, "bias", None) is not None
        ]
        for r in readers
    ]
    full = whole(down, prefix)
    if len(readers) == 1 and _features(readers[0].module) == inputs:
        return Projections(up=whole(readers[0], prefix), down=full)
    if len(readers) == 1 and _features(readers[0].module) == 2 * inputs:
        halves = _halves(call, names[0], 2 * inputs)
        if halves is not None:
            gate, up = (_slice(readers[0], prefix, half) for half in halves)
            return Projections(gate=gate, up=up, down=full)
    if len(readers) == 2:
        bends = [_curvature(call, n, slice(0, None), _first) for n in names]
        if min(bends) < _AFFINE <= max(bends):
            first, second = readers if bends[0] < bends[1] else readers[::-1]
            return Projections(gate=whole(second, prefix), up=whole(first, prefix), down=full)
    return Projections(down=full)


def expert_mlp(call: Call, prefix: str, *, width: int) -> tuple[Projections, bool]:
    """Find gate, up and down projections in experts whose weights are stacked as [expert, ., .].

    Args:
        call: The traced call of the module that holds the stacked parameters.
        prefix: Full name of the block with a final dot.
        width: Width of the residual stream.

    Returns:
        The projections, and whether the matrices are stored transposed ([expert, inputs, outputs]).
    """
    stacks = {n: p for n, p in call.module.named_parameters() if p.ndim == 3}
    if len(stacks) != 2:
        return Projections(), False
    (first, a), (second, b) = sorted(stacks.items(), key=lambda item: -item[1].numel())
    if a.numel() != 2 * b.numel():
        return Projections(), False
    # A square first stack leaves the second to tell: [expert, width, inner], or transposed [expert, inner, width].
    transposed = a.shape[1] == width if a.shape[1] != a.shape[2] else b.shape[2] == width
    axis = 2 if transposed else 1
    size = int(a.shape[axis])

    def bias(name: str, features: int) -> str | None:
        found = [n for n, p in call.module.named_parameters() if p.ndim == 2 and p.shape[-1] == features]
        return next((n for n in found if n.startswith(name)), None)

    fused_bias = bias(first, size)
    names = [(first, axis)] + ([(fused_bias, 1)] if fused_bias else [])
    halves = _halves(call, names, size)
    where = call.name.removeprefix(prefix) + "."
    full = Slice(second, axis, slice(0, int(b.shape[axis])), bias(second, int(b.shape[axis]))).within(where)
    if halves is None:
        return Projections(down=full), transposed
    gate, up = (Slice(first, axis, half, fused_bias).within(where) for half in halves)
    return Projections(gate=gate, up=up, down=full), transposed
