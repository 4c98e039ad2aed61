"""One clean pass over a text set, from which every selector reads: activations, gradients, state decay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tremor.errors import NumericsError
from tremor.evaluate.facts import Batch, TextSet, token_logprobs
from tremor.models import ssm
from tremor.models.loader import LoadedModel
from tremor.neurons.sites import Site
from tremor.weights.activations import Reference, intervened

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Collected:
    """What one clean pass says of one place.

    Attributes:
        mean: Mean activation over the positions of each text [texts, width].
        attribution: Sum over positions of activation times gradient of the answer's log-probability
            [texts, width]: to first order, what the answer loses when the unit is set to zero; None if no gradient
            was asked for.
        decay: Mean over positions of the state decay [texts, width], at the tap delta only.
        reference: Of all tokens of the set.
    """

    mean: Floats
    attribution: Floats | None
    decay: Floats | None
    reference: Reference


class _Sums:
    """Running sums of one place."""

    def __init__(self, texts: int) -> None:
        self.texts = texts
        self.mean: Floats | None = None
        self.attribution: Floats | None = None
        self.decay: Floats | None = None
        self.total: Tensor | None = None
        self.square: Tensor | None = None
        self.rows: list[Tensor] = []

    def put(self, name: str, rows: Sequence[int], values: Tensor) -> None:
        table = getattr(self, name)
        if table is None:
            table = np.full((self.texts, values.shape[-1]), np.nan)
            setattr(self, name, table)
        table[list(rows)] = values.detach().double().cpu().numpy()


def collect(
    loaded: LoadedModel,
    texts: TextSet,
    sites: Sequence[Site],
    *,
    gradients: bool,
    sample: int,
    seed: int,
) -> Mapping[Site, Collected]:
    """Run a text set once and keep what selection and ablation need, for all places together.

    Args:
        loaded: The model.
        texts: The sentences; every one with an answer where gradients are asked for.
        sites: Places of this model.
        gradients: Whether to differentiate the answers' log-probabilities.
        sample: Tokens kept for resampling, about.
        seed: Of their choice.

    Raises:
        NumericsError: An activation or a gradient is not finite, or a sentence has no answer.
    """
    if gradients and any(span is None for span in texts.answers):
        raise NumericsError("gradients of answers need sentences with answers")
    sums = {place: _Sums(len(texts)) for place in sites}
    tokens = sum(len(ids) for ids in texts.ids)
    generator = torch.Generator().manual_seed(seed)
    for batch in texts.batches:
        values, offsets = _forward(loaded, batch, sites, gradients=gradients)
        lengths = batch.real.sum(-1, keepdim=True)
        real = batch.real[..., None]
        share = min(1.0, sample / tokens)
        for place in sites:
            value, own = values[place], sums[place]
            kept = torch.where(real, value.double(), 0.0)
            own.put("mean", batch.rows, kept.sum(1) / lengths)
            own.total = kept.sum((0, 1)) + (0 if own.total is None else own.total)
            own.square = kept.square().sum((0, 1)) + (0 if own.square is None else own.square)
            flat = value[batch.real].detach().float().cpu()
            own.rows.append(flat[torch.rand(len(flat), generator=generator) < share])
            if place.kind == "delta":
                decayed = ssm.decay(loaded.anatomy.block_parts[place.layer].mixer, value)
                own.put("decay", batch.rows, torch.where(real, decayed.double(), 0.0).sum(1) / lengths)
            if gradients:
                product = value.double() * offsets[place].double()
                own.put("attribution", batch.rows, torch.where(real, product, 0.0).sum(1))
    return {place: _finished(place, own, tokens) for place, own in sums.items()}


def _forward(
    loaded: LoadedModel, batch: Batch, sites: Sequence[Site], *, gradients: bool
) -> tuple[dict[Site, Tensor], dict[Site, Tensor]]:
    """Values of all places, and the gradients of the batch's answers by them."""
    values: dict[Site, Tensor] = {}
    zeros: dict[Site, Tensor] = {}

    def tapped(place: Site) -> Callable[[Tensor], Tensor]:
        def change(tensor: Tensor) -> Tensor:
            values[place] = tensor.detach()
            if not gradients:
                return tensor
            # A zero that is added changes nothing and is what is differentiated by.
            zeros[place] = torch.zeros_like(tensor, requires_grad=True)
            return tensor + zeros[place]

        return change

    with torch.set_grad_enabled(gradients), intervened(loaded.anatomy, _merged(sites, tapped)):
        logits = loaded.model(input_ids=batch.ids, use_cache=False).logits
        if not gradients:
            return values, {}
        answers = torch.where(batch.answer, token_logprobs(logits, batch.ids), 0.0).sum()
    found = torch.autograd.grad(answers, [zeros[place] for place in sites], allow_unused=True)
    # Nothing is learnt from what the answer does not depend on: its gradient is zero.
    full = [torch.zeros_like(zeros[s]) if g is None else g for s, g in zip(sites, found, strict=True)]
    return values, dict(zip(sites, full, strict=True))


def _merged(
    sites: Sequence[Site], tapped: Callable[[Site], Callable[[Tensor], Tensor]]
) -> dict[str, Callable[[Tensor], Tensor]]:
    return {place.tap: tapped(place) for place in sites}


def _finished(place: Site, own: _Sums, tokens: int) -> Collected:
    assert own.mean is not None
    assert own.total is not None
    assert own.square is not None
    for table in (own.mean, own.attribution):
        if table is not None and not np.isfinite(table).all():
            raise NumericsError(f"an activation or gradient at tap {place.tap} is not finite; use a wider dtype")
    mean = own.total / tokens
    std = (own.square / tokens - mean.square()).clamp(min=0.0).sqrt()
    rows = torch.cat(own.rows)
    if not len(rows):
        raise NumericsError("no token was kept for resampling; raise delta.neurons.reference_tokens")
    reference = Reference(mean.float().cpu(), std.float().cpu(), rows)
    return Collected(own.mean, own.attribution, own.decay, reference)
