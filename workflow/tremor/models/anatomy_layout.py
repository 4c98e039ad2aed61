"""The layout of a whole model from one traced forward: embeddings, blocks, what follows them, the head."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tremor.errors import ModelError
from tremor.models.anatomy_projections import is_linear
from tremor.models.anatomy_trace import Call, Tracer, same


@dataclass(frozen=True)
class Layout:
    """What a traced forward on three tokens showed.

    Attributes:
        ids: The tokens [1, 3].
        embeds: Their `inputs_embeds` [1, 3, d_input].
        entry: Input of the first block [1, 3, d_model].
        raw: Output of the unembedding module [1, 3, vocab].
        logits: Output of the model [1, 3, vocab].
        embedding: Input embedding module.
        unembedding: Output embedding module.
        blocks: The decoder blocks.
        container: The module that runs the blocks.
        calls: One call of each block, in order.
        before: Calls made between the embeddings and the first block.
        after: Calls made after the last block, up to the last hidden state.
    """

    ids: Tensor
    embeds: Tensor
    entry: Tensor
    raw: Tensor
    logits: Tensor
    embedding: nn.Module
    unembedding: nn.Module
    blocks: nn.ModuleList
    container: nn.Module
    calls: tuple[Call, ...]
    before: tuple[Call, ...]
    after: tuple[Call, ...]


def _find_blocks(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The one ModuleList as long as the config says; lists inside another one (experts) do not count."""
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if not isinstance(layers, int) or layers < 1:
        raise ModelError(f"{type(model).__name__}: the config names no number of layers")
    found: list[tuple[str, nn.ModuleList]] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(outer + ".") for outer, _ in found)
        # A list of bare linears is no list of blocks, however long (Gemma 3n has some).
        bare = isinstance(module, nn.ModuleList) and all(is_linear(item) for item in module)
        if isinstance(module, nn.ModuleList) and len(module) == layers and not inside and not bare:
            found.append((name, module))
    if len(found) != 1:
        names = ", ".join(name for name, _ in found) or "none"
        raise ModelError(
            f"{type(model).__name__}: expected exactly one list of {layers} blocks, found {len(found)} "
            f"({names}); "
            "only decoder-only models with one stack of blocks are understood"
        )
    return found[0]


def _check_request(model: PreTrainedModel) -> tuple[nn.Module, nn.Module]:
    """Refuse what is no decoder-only language model; give its input and output embeddings."""
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"{name} is an encoder-decoder; only decoder-only language models are supported")
    if model.training:
        raise ModelError(f"{name} is in training mode, where dropout is random; call .eval() first")
    embedding = model.get_input_embeddings()
    unembedding = model.get_output_embeddings()
    if embedding is None or unembedding is None:
        raise ModelError(f"{name} has no output embedding; load it as a causal language model (AutoModelForCausalLM)")
    return embedding, unembedding


def _run(model: PreTrainedModel, tracer: Tracer, embeds: Tensor) -> Tensor:
    """Run the traced forward and check that no position sees a later one.

    The check is a gradient, exactly zero where attention is masked, whatever the rounding of the forward.
    """
    name = type(model).__name__
    try:
        with torch.enable_grad(), tracer:
            logits = model(inputs_embeds=embeds, use_cache=False).logits
            noise = torch.randn(logits.shape[-1], generator=torch.Generator().manual_seed(0)).to(logits)
            (gradient,) = torch.autograd.grad((logits[0, 0] * noise).sum(), embeds)
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise ModelError(f"{name}: a forward from inputs_embeds failed: {error}") from error
    if bool((gradient[0, 1:] != 0).any()):
        raise ModelError(f"{name} is not causal: the first position depends on later ones (an encoder?)")
    result = logits.detach()
    assert isinstance(result, Tensor)
    return result


def _outside(tracer: Tracer, first: Call, last: Call, base: nn.Module) -> tuple[list[Call], list[Call], Call]:
    """Calls made around the blocks by the container and its parents: before, after, the outermost."""
    chain: list[Call] = []
    call = last.parent
    while call is not None:
        chain.append(call)
        # OPT's head calls the decoder inside the base model, and never the base model itself.
        if call.module is base or (call.parent is not None and call.parent.parent is None):
            break
        call = call.parent
    if call is None:
        raise ModelError("the blocks are run by the model's head itself; expected them inside model.base_model")
    start, end = tracer.calls.index(first), tracer.calls.index(last)
    outer = [c for c in tracer.calls if c.parent in chain and c not in chain and c.output is not None]
    before = [c for c in outer if tracer.calls.index(c) < start]
    after = [c for c in outer if tracer.calls.index(c) > end]
    # Dropout and the like do nothing in eval mode.
    after = [c for c in after if not (same(c.input, c.output) and not list(c.module.parameters()))]
    return before, after, chain[-1]


def _check_chain(name: str, last: Call, after: list[Call], base: Call) -> None:
    """The modules after the last block must lead from its output to the base model's output, in one line."""
    value = last.output
    for place, call in enumerate(after):
        halved = place == 0 and value is not None and same(value / 2, call.input)  # RWKV halves every n blocks
        if not same(value, call.input) and not halved:
            raise ModelError(
                f"{name}: '{call.name}' after the last block reads something else than the residual stream"
            )
        value = call.output
    if not same(value, base.output):
        raise ModelError(f"{name}: the last hidden state is not what the modules after the last block give")


def _check_ids(model: PreTrainedModel, name: str, ids: Tensor, logits: Tensor) -> None:
    """Ids and their embeddings must give one forward; some models add per-token inputs elsewhere."""
    with torch.no_grad():
        other = model(input_ids=ids, use_cache=False).logits
    # A different function differs grossly; kernels that are not repeatable differ by roundings.
    tolerance = 100 * torch.finfo(logits.dtype).eps * float(logits.abs().max())
    if not bool(((other - logits).abs() <= tolerance).all()):
        raise ModelError(f"{name}: input_ids and their inputs_embeds give different logits")


def trace_model(model: PreTrainedModel) -> Layout:
    """Run a traced forward and find the layout.

    Args:
        model: A transformers model with its language-model head, in eval mode.

    Returns:
        The layout.

    Raises:
        ModelError: If the model is no decoder-only language model or its layout cannot be understood.
    """
    embedding, unembedding = _check_request(model)
    name = type(model).__name__
    blocks_name, blocks = _find_blocks(model)
    weight = embedding.weight
    assert isinstance(weight, Tensor)
    rows = int(weight.shape[0])
    # Ordinary tokens from within the vocabulary: the first ids are often padding, with a zero embedding.
    ids = torch.tensor([[rows // 7, rows // 3, rows // 2]], device=weight.device)
    with torch.no_grad():
        embeds = embedding(ids)
    tracer = Tracer(model)
    logits = _run(model, tracer, embeds.detach().clone().requires_grad_())
    calls = [call for block in blocks for call in tracer.of(block)]
    order = [tracer.calls.index(call) for call in calls]
    if [call.module for call in calls] != list(blocks) or order != sorted(order):
        raise ModelError(f"{name}: the blocks of '{blocks_name}' are not run once each, in order")
    before, after, base = _outside(tracer, calls[0], calls[-1], model.base_model)
    _check_chain(name, calls[-1], after, base)
    reads = tracer.of(unembedding)
    raw = reads[0].output if len(reads) == 1 else None
    given = reads[0].input if raw is not None else None
    if raw is None or given is None or base.output is None or not same(given, base.output.to(given)):
        raise ModelError(f"{name}: the unembedding does not read the last hidden state directly")
    _check_ids(model, name, ids, logits)
    entry, container = calls[0].input, calls[0].parent
    assert entry is not None
    assert container is not None
    return Layout(
        ids=ids,
        embeds=embeds,
        entry=entry,
        raw=raw,
        logits=logits,
        embedding=embedding,
        unembedding=unembedding,
        blocks=blocks,
        container=container.module,
        calls=tuple(calls),
        before=tuple(before),
        after=tuple(after),
    )
