"""Which units of a place a relation needs: selectors over one shared clean pass, random controls, and a key for each.

- `variance` (the original): variance over a relation's texts of the activation's mean over positions. It finds units
  that differ between texts, and large ones first.
- `decay`: the same of the state decay exp(delta A) of a Mamba channel; at the tap delta only.
- `gradient`: activation times gradient of the answer's log-probability, summed over positions, mean over texts: to
  first order what the answers lose without the unit.
- `integrated`: integrated gradients from zero to the activation (Sundararajan et al. 2017; Dai et al. 2022).
- `effect`: what the answers lose in truth, one ablation for each candidate.

The last three are signed: units that support the answers come first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tremor.errors import ConfigError, NumericsError
from tremor.evaluate import facts
from tremor.evaluate.facts import TextSet, token_logprobs
from tremor.models.loader import LoadedModel
from tremor.neurons.collect import Collected, collect
from tremor.neurons.sites import Site
from tremor.weights.activations import ablation, intervened

SELECTORS = ("variance", "decay", "gradient", "integrated", "effect")
NEED_GRADIENTS = frozenset({"gradient", "effect"})
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Options:
    """Settings of the selectors.

    Attributes:
        steps: Points of the path of `integrated` (midpoint rule).
        candidates: Units that `effect` ablates, those of largest |gradient x activation|; None for all.
        sample: Tokens kept for resampling.
        seed: Of their choice.
    """

    steps: int = 16
    candidates: int | None = 32
    sample: int = 512
    seed: int = 0


class Selection:
    """Selectors over one clean pass.

    Args:
        loaded: The model.
        texts: Sentences to select on, of all relations.
        sites: Places of this model.
        selectors: Of `SELECTORS`; what they need is collected.
        options: Their settings.

    Raises:
        ConfigError: An unknown selector, or `decay` where no place has a state decay.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        texts: TextSet,
        sites: Sequence[Site],
        selectors: Sequence[str],
        options: Options = Options(),
    ) -> None:
        unknown = [name for name in selectors if name not in SELECTORS]
        if unknown:
            raise ConfigError(f"selector {unknown[0]!r} is unknown; selectors are {', '.join(SELECTORS)}")
        self.loaded, self.texts, self.options = loaded, texts, options
        gradients = bool(NEED_GRADIENTS & set(selectors))
        self.collected: Mapping[Site, Collected] = collect(
            loaded, texts, sites, gradients=gradients, sample=options.sample, seed=options.seed
        )
        self._sets: dict[str, TextSet] = {}
        self.completeness: dict[tuple[Site, str], float] = {}

    def scores(self, selector: str, place: Site, relation: str) -> Floats:
        """Score of every unit of a place for one relation [width]; larger means selected first.

        Raises:
            ConfigError: The selector does not fit the place, or the relation has too few texts.
        """
        rows = self.texts.where(relation=relation)
        own = self.collected[place]
        if selector in ("variance", "decay"):
            table = own.mean if selector == "variance" else own.decay
            if table is None:
                raise ConfigError(f"selector decay reads the state decay and fits the tap delta only, not {place.kind}")
            if len(rows) < 2:
                raise ConfigError(f"selector {selector} needs two texts of relation {relation}, there are {len(rows)}")
            return np.asarray(table[rows].var(axis=0))
        if not len(rows):
            raise ConfigError(f"there is no text of relation {relation} to select on")
        if selector == "gradient":
            assert own.attribution is not None
            return np.asarray(own.attribution[rows].mean(axis=0))
        if selector == "integrated":
            return self._integrated(place, relation)
        return self._effect(place, relation)

    def _set(self, relation: str) -> TextSet:
        if relation not in self._sets:
            self._sets[relation] = self.texts.subset(self.texts.where(relation=relation))
        return self._sets[relation]

    def _integrated(self, place: Site, relation: str) -> Floats:
        texts, steps = self._set(relation), self.options.steps
        total: torch.Tensor | None = None
        ends = np.zeros(2)
        for batch in texts.batches:
            for alpha in [*((i + 0.5) / steps for i in range(steps)), 0.0, 1.0]:
                leaf: list[torch.Tensor] = []
                clean: list[torch.Tensor] = []

                def scaled(tensor: torch.Tensor, alpha: float = alpha, leaf: Any = leaf, clean: Any = clean) -> Any:
                    clean.append(tensor.detach())
                    leaf.append((tensor.detach() * alpha).requires_grad_())
                    return leaf[-1]

                with torch.enable_grad(), intervened(self.loaded.anatomy, {place.tap: scaled}):
                    logits = self.loaded.model(input_ids=batch.ids, use_cache=False).logits
                    answer = torch.where(batch.answer, token_logprobs(logits, batch.ids).double(), 0.0).sum()
                if alpha in (0.0, 1.0):
                    ends[int(alpha)] += float(answer.detach())
                    continue
                (gradient,) = torch.autograd.grad(answer, leaf)
                part = (clean[0].double() * gradient.double() * batch.real[..., None]).sum((0, 1)) / steps
                total = part if total is None else total + part
        assert total is not None
        change = float(ends[1] - ends[0])
        # Completeness: the units' shares add up to what the answers lose without all of them.
        self.completeness[place, relation] = abs(float(total.sum()) - change) / max(abs(change), 1e-12)
        return np.asarray((total / len(texts)).cpu().numpy())

    def _effect(self, place: Site, relation: str) -> Floats:
        attribution = self.collected[place].attribution
        assert attribution is not None
        rows = self.texts.where(relation=relation)
        width = attribution.shape[1]
        count = min(width, self.options.candidates or width)
        chosen = np.argsort(-np.abs(attribution[rows].mean(axis=0)), kind="stable")[:count]
        texts = self._set(relation)
        kept = facts.keep(self.loaded, texts, place.start)
        clean = facts.evaluate(self.loaded, texts, kept=kept).answer_logprob
        found = np.full(width, -np.inf)  # never selected before one that was tried
        for unit in chosen:
            change = {place.tap: ablation(place.tap, [int(unit)])}
            lost = clean - facts.evaluate(self.loaded, texts, changes=change, kept=kept).answer_logprob
            found[unit] = lost.mean()
        return found


def top(scores: Floats, k: int) -> npt.NDArray[np.int64]:
    """The k units of largest score, ties in the order of their numbers.

    Raises:
        ConfigError: There are not so many units.
        NumericsError: A score is NaN.
    """
    if np.isnan(scores).any():
        raise NumericsError("a score is NaN; no unit can be selected")
    if k > np.count_nonzero(scores > -np.inf):
        raise ConfigError(f"top_k is {k}, but only {np.count_nonzero(scores > -np.inf)} units were scored")
    return np.argsort(-scores, kind="stable")[:k].astype(np.int64)


def controls(width: int, k: int, draws: int, seed: int) -> npt.NDArray[np.int64]:
    """Random sets of as many units of the same place [draws, k], each without repetition.

    Raises:
        ConfigError: The place has not so many units.
    """
    if k > width:
        raise ConfigError(f"top_k is {k}, but this tap has {width} units")
    rng = np.random.default_rng(seed)
    return np.stack([np.sort(rng.choice(width, size=k, replace=False)) for _ in range(draws)]).astype(np.int64)


def key(
    *,
    weights: str,
    revision: str | None,
    relation: str,
    layer: int,
    tap: str,
    selector: str,
    k: int,
    texts: str,
    options: Mapping[str, Any],
) -> str:
    """Digest of all that a selection depends on; a stored one is used only where it is equal.

    Args:
        weights: Digest of the model's weights.
        revision: Of the model, None where it has none.
        relation: The relation whose texts are selected on.
        layer: Block.
        tap: Kind of place.
        selector: How units are scored.
        k: How many are taken.
        texts: Digest of the text set as the model reads it (`TextSet.digest`).
        options: Settings of the selectors.
    """
    parts = {
        "weights": weights, "revision": revision, "relation": relation, "layer": layer, "tap": tap,
        "selector": selector, "k": k, "texts": texts, "options": dict(options),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
