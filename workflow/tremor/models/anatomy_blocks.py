"""Read one decoder block from its traced call: mixer, MLP, norms, flow of the residual, taps."""

from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tremor.errors import ModelError
from tremor.models import anatomy_projections as projections
from tremor.models.anatomy_parts import BlockParts, MixerKind, Projections
from tremor.models.anatomy_trace import Call, feeds, hidden_input, same
from tremor.models.taps import TapPoint

# Only what mixes positions is given a cache, a mask or a recurrent state.
_MIXER_KEYWORDS = frozenset(
    {
        "past_key_values",
        "past_key_value",
        "layer_past",
        "cache_params",
        "attention_mask",
        "position_embeddings",
        "state",
    }
)


def is_norm(call: Call, width: int) -> bool:
    """Whether a call is a norm of the residual stream: same shape out as in, only vectors as parameters."""
    if call.input is None or call.output is None or call.input.shape != call.output.shape:
        return False
    shapes = [tuple(p.shape) for p in call.module.parameters()]
    named = "norm" in type(call.module).__name__.lower()
    return call.input.shape[-1] == width and all(s == (width,) for s in shapes) and (bool(shapes) or named)


def _has_matrix(module: nn.Module) -> bool:
    return any(parameter.ndim >= 2 for parameter in module.parameters())


def _kind(mixer: nn.Module) -> MixerKind | None:
    names = {name.rsplit(".", 1)[-1] for name, _ in mixer.named_parameters()}
    if "A_log" in names:
        return "ssm"
    return "recurrent" if "time_decay" in names else None


def _split(block: Call, width: int) -> tuple[Call, list[Call], list[Call]]:
    """Sort the calls a block makes itself: the mixer, the MLP (none, one, or bare linears), the norms."""
    norms = [c for c in block.children if is_norm(c, width)]
    rest = [c for c in block.children if c not in norms and _has_matrix(c.module)]
    mixers = [c for c in rest if _MIXER_KEYWORDS & set(c.kwargs)]
    if len(mixers) > 1:  # RWKV hands its state to the feed-forward too
        mixers = [c for c in mixers if _kind(c.module) is not None]
    assert block.input is not None
    for mixer in mixers:
        if mixer.input is not None and mixer.input.numel() != block.input.numel():
            raise ModelError(
                f"block '{block.name}' ({type(block.module).__name__}) keeps several residual streams "
                f"({tuple(block.input.shape)}, its mixer reads {tuple(mixer.input.shape)}); "
                "models with one are understood"
            )
    if len(mixers) != 1:
        raise ModelError(
            f"cannot tell what mixes positions in block '{block.name}' ({type(block.module).__name__}); "
            f"found {len(mixers)} candidates"
        )
    mlp = [c for c in rest if c is not mixers[0]]
    if len(mlp) > 1 and not all(projections.is_linear(c.module) for c in mlp):
        raise ModelError(
            f"block '{block.name}' ({type(block.module).__name__}) has several feed-forward parts: "
            + ", ".join(c.name.rsplit(".", 1)[-1] for c in mlp)
            + "; blocks of one mixer and one MLP are understood"
        )
    return mixers[0], mlp, norms


def _scales(module: nn.Module) -> list[Tensor]:
    """Numbers that a module holds itself: Gemma 4 multiplies the stream by one at the end of a block."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return [tensor.detach() for tensor in own if tensor.numel() == 1 and tensor.is_floating_point()]


def _sum_is(total: Tensor | None, a: Tensor | None, b: Tensor | None, scale: Tensor | None = None) -> bool:
    """Whether `total` is `a + b` (times a number) bit for bit; floating addition commutes exactly."""
    if total is None or a is None or b is None or a.numel() != b.numel():
        return False
    found = a.reshape(-1) + b.reshape(-1).to(a.device)
    return same(total.reshape(-1), found if scale is None else found * scale.to(found.device))


def _branch(call: Call, width: int, residuals: list[Tensor]) -> tuple[TapPoint, Tensor]:
    """Where a branch's contribution can be read: BLOOM adds the residual inside, after the inner linear."""
    assert call.output is not None
    out = projections.output_linear(call, width)
    if out is not None and not same(out.output, call.output):
        for residual in residuals:
            if _sum_is(call.output, out.output, residual):
                assert out.output is not None
                return TapPoint(out.module, "output"), out.output
    return TapPoint(call.module, "output"), call.output


def _ways(point: TapPoint, value: Tensor, norms: list[Call]) -> list[tuple[TapPoint, Tensor]]:
    """A contribution as it is, and after a norm that reads it (Gemma 2 and OLMo 2 norm before they add)."""
    ways = [(point, value)]
    ways += [(TapPoint(n.module, "output"), n.output) for n in norms if same(n.input, value) and n.output is not None]
    return ways


def _mlp_reads_mixer(block: Call, mixer: Call, mlp: Call) -> bool:
    """Turn the mixer's output around and see whether the MLP's input changes.

    Channels are rotated and not scaled: a norm that follows would undo a scale.
    """
    seen: list[Tensor | None] = []

    def turn(module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return output.roll(1, -1)
        return (output[0].roll(1, -1), *output[1:])

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(hidden_input(args, kwargs)[0])

    handles = [
        mixer.module.register_forward_hook(turn),
        mlp.module.register_forward_pre_hook(look, with_kwargs=True),
    ]
    try:
        with torch.no_grad():
            block.module(*block.args, **block.kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return not same(seen[-1], mlp.input)


def _flow(
    block: Call, mixer: Call, mlp: list[Call], norms: list[Call], width: int
) -> tuple[bool, float, dict[str, TapPoint]]:
    """Follow the residual through a block.

    Returns:
        Whether the block is parallel, the factor on the stream at its end, and the taps "mixer", "mlp" and
        (sequential blocks) "mid".
    """
    assert block.input is not None
    direct = block.children
    after = direct[direct.index(mixer) :]
    seen = [(TapPoint(mixer.module, "output"), mixer.output)]
    seen += [(TapPoint(c.module, "input"), c.input) for c in after[1:]]
    seen += [(TapPoint(c.module, "output"), c.output) for c in after[1:] if c not in mlp]
    bases = [block.input, *[n.output for n in norms if n.output is not None]]
    own, value = _branch(mixer, width, bases)
    taps = {"mixer": own}
    if not mlp:
        return False, 1.0, taps
    parallel = not _mlp_reads_mixer(block, mixer, mlp[0])
    mid: Tensor | None = None
    if not parallel:
        hits = [
            (point, tensor, way)
            for way, add in _ways(own, value, norms)
            for point, tensor in seen
            for base in bases
            if _sum_is(tensor, add, base)
        ]
        if hits:
            taps["mid"], mid, taps["mixer"] = hits[0]
    last = mlp[-1]
    bases += [t for t in (mid, *(t for _, t in seen)) if t is not None and t.numel() == block.input.numel()]
    own, value = _branch(last, width, bases)
    taps["mlp"] = own
    ends = [block.output, *[n.input for n in norms if same(n.output, block.output)]]
    ways = (
        []
        if parallel
        else [(way, scale) for scale in (None, *_scales(block.module)) for way in _ways(own, value, norms)]
    )
    for (point, add), scale in ways:
        if any(_sum_is(end, add, base, scale) for end in ends for base in bases):
            taps["mlp"] = point
            return parallel, 1.0 if scale is None else float(scale), taps
    return parallel, 1.0, taps


def _roles(block: Call, mixer: Call, mlp: list[Call], norms: list[Call]) -> dict[str, str]:
    def givers(call: Call) -> list[Call]:
        # By identity where it can be seen: two norms of one stream with equal weights give equal values.
        return [n for n in norms if feeds(n, call)] or [n for n in norms if same(n.output, call.input)]

    roles = {}
    for norm in norms:
        to_mixer, to_mlp = norm in givers(mixer), bool(mlp) and norm in givers(mlp[0])
        if to_mixer or to_mlp:
            role = "both_in" if to_mixer and to_mlp else ("mixer_in" if to_mixer else "mlp_in")
        elif same(norm.input, mixer.output):
            role = "mixer_out"
        elif mlp and same(norm.input, mlp[-1].output):
            role = "mlp_out"
        else:
            role = "residual" if same(norm.output, block.output) else "other"
        # OPT-350m norms the sum, so the norm that feeds the MLP also carries the residual on.
        roles[norm.name.removeprefix(block.name + ".")] = role
    return roles


def _experts(mlp: list[Call]) -> tuple[Call | None, nn.Module | None, int]:
    """The call that holds stacked expert weights, the router beside it, the number of experts."""
    calls = [c for m in mlp for c in (m, *m.descendants())]
    stacks = {id(c): [p for p in c.module.parameters(recurse=False) if p.ndim == 3 and min(p.shape) > 1] for c in calls}
    holders = [c for c in calls if stacks[id(c)]]
    if len(holders) != 1:
        return None, None, 0
    count = int(stacks[id(holders[0])][0].shape[0])
    routers = [
        c.module
        for c in calls
        if c is not holders[0] and any(p.ndim == 2 and p.shape[0] == count for p in c.module.parameters(recurse=False))
    ]
    return holders[0], routers[0] if len(routers) == 1 else None, count


def _named_taps(block: Call) -> dict[str, TapPoint]:
    """Output (and, with the ending ".input", input) of every module inside the block that is called once."""
    calls = block.descendants()
    times = Counter(id(c.module) for c in calls)
    taps = {}
    for call in calls:
        name = call.name.removeprefix(block.name + ".")
        if times[id(call.module)] == 1 and call.output is not None:
            taps[name] = TapPoint(call.module, "output")
            if call.input is not None:
                taps[f"{name}.input"] = TapPoint(call.module, "input")
    return taps


def read_block(
    block: Call, index: int, *, n_heads: int, known: dict[Any, tuple[Any, ...]]
) -> tuple[BlockParts, set[str]]:
    """Describe one block.

    Args:
        block: Its traced call.
        index: Its position, from 0.
        n_heads: Number of query heads, to know where a head begins.
        known: Results of the experiments by structure of the block; blocks built alike share them.

    Returns:
        The parts, and the names of parameters stored transposed as stacked experts.

    Raises:
        ModelError: If the parts cannot be told apart.
    """
    if block.input is None or block.output is None or block.input.shape != block.output.shape:
        raise ModelError(f"block '{block.name}' does not map a residual stream to one of the same shape")
    width = int(block.input.shape[-1])
    mixer, mlp, norms = _split(block, width)
    experts, router, count = _experts(mlp)
    prefix = block.name + "."
    key = (
        type(block.module),
        type(mixer.module),
        tuple((n, p.shape) for n, p in block.module.named_parameters()),
    )
    if key not in known:
        known[key] = _experiments(mixer, mlp, experts, prefix, width, n_heads)
    kind, found, transposed = known[key]
    parallel, scale, flow = _flow(block, mixer, mlp, norms, width)
    taps = {**_named_taps(block), **flow, "mixer.input": TapPoint(mixer.module, "input")}
    if mlp:
        taps["mlp.input"] = TapPoint(mlp[0].module, "input")
    parts = BlockParts(
        index=index,
        name=block.name,
        module=block.module,
        mixer=mixer.module,
        mixer_kind=kind,
        mlp=tuple(c.module for c in mlp),
        norms={n.name.removeprefix(prefix): n.module for n in norms},
        roles=_roles(block, mixer, mlp, norms),
        parallel=parallel,
        scale=scale,
        projections=found.within(prefix),
        router=router,
        experts=None if experts is None else experts.module,
        n_experts=count,
        taps=taps,
    )
    return parts, {prefix + name for name in transposed}


def _experiments(
    mixer: Call, mlp: list[Call], experts: Call | None, prefix: str, width: int, n_heads: int
) -> tuple[MixerKind, Projections, tuple[str, ...]]:
    """Tell the projections of a block apart; names are relative to the block."""
    kind = _kind(mixer.module)
    mixing: Projections | None = None
    if kind is None:
        mixing = projections.attention(mixer, prefix, width=width, n_heads=n_heads)
        kind = "recurrent" if mixing is None else "attention"
    if mixing is None:
        out = projections.output_linear(mixer, width)
        mixing = Projections(o=None if out is None else projections.whole(out, prefix))
    feeding, stacked = Projections(), False
    if experts is not None:
        feeding, stacked = projections.expert_mlp(experts, prefix, width=width)
    elif len(mlp) == 1:
        feeding = projections.dense_mlp(mlp[0], prefix, width=width)
    elif len(mlp) == 2:
        feeding = Projections(up=projections.whole(mlp[0], prefix), down=projections.whole(mlp[1], prefix))
    both = replace(mixing, gate=feeding.gate, up=feeding.up, down=feeding.down)
    names = {part.parameter for part in (feeding.gate, feeding.up, feeding.down) if part is not None}
    return kind, both, tuple(sorted(names)) if stacked else ()
