"""What the extreme sensitivity analyses share: their texts, the settings of scores, and the effect of an edit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tremor.errors import ConfigError
from tremor.evaluate import nll
from tremor.evaluate import texts as choosing
from tremor.evaluate.effects import Resampler, matched_control
from tremor.experiments.esa_tables import against_controls as against_controls
from tremor.experiments.esa_tables import table as table
from tremor.models.corpus import TextSplit
from tremor.models.loader import LoadedModel
from tremor.progress import track
from tremor.weights.campaign import require_repeat
from tremor.weights.mutate import Edit, Operation, edits_at, mutated, zero
from tremor.weights.scores import Options


def passages(split: TextSplit, count: int) -> list[str]:
    """The first passages of each domain in turn.

    Raises:
        ConfigError: There are fewer.
        ArtifactError: One of them stands in another split too.
    """
    found = choosing.in_turn(choosing.passages(split))
    if count > len(found):
        raise ConfigError(f"esa.texts asks for {count} {split} passages, and there are {len(found)}; lower it")
    return [passage.text for passage in found[:count]]


def options(settings: Mapping[str, Any]) -> Options:
    """Settings of the scores from the config block `esa.scores`."""
    return Options(**settings)


def layers(loaded: LoadedModel, wanted: Sequence[int] | None) -> list[int]:
    """Numbers of the blocks that are meant; None for all.

    Raises:
        ConfigError: There is no such block.
    """
    count = loaded.anatomy.n_layers
    for block in wanted or ():
        if not 0 <= block < count:
            raise ConfigError(f"there is no block {block}: this model has blocks 0 to {count - 1}")
    return list(range(count)) if wanted is None else list(wanted)


@dataclass(frozen=True)
class Effect:
    """What an edit of weights does to held-out text.

    Attributes:
        weights: Weights that were changed.
        status: "ok", "nan_logits" or "inf_loss".
        delta_nll: Change of the corpus NLL, nats a token; None for NaN.
        delta_nll_low: Lower end of its 95 % interval (paired bootstrap over texts); None where a text is not finite.
        delta_nll_high: Upper end.
        kl: Mean KL(clean || changed), nats a token.
        flip_rate: Share of tokens whose first choice changed.
    """

    weights: int
    status: str
    delta_nll: float | None
    delta_nll_low: float | None
    delta_nll_high: float | None
    kl: float | None
    flip_rate: float | None


class Bench:
    """A model beside its clean baseline on held-out texts: one baseline for all edits of an analysis.

    Args:
        loaded: The model.
        texts: Held-out texts.
        batch_size: Texts in one forward pass.

    Raises:
        NumericsError: The clean model's likelihood is not finite, or is not the same twice.
    """

    def __init__(self, loaded: LoadedModel, texts: Sequence[str], *, batch_size: int) -> None:
        self.loaded = loaded
        self.texts = nll.tokenise(loaded, texts)
        self.clean = nll.baseline(loaded, self.texts, batch_size=batch_size)
        require_repeat(nll.evaluate(loaded, self.texts, batch_size=batch_size, clean=self.clean))
        self._resampler = Resampler(self.texts.tokens)
        self._sizes = {name: parameter.numel() for name, parameter in loaded.model.named_parameters()}

    def now(self) -> Effect:
        """The model as it is, against the clean baseline."""
        found = nll.evaluate(self.loaded, self.texts, batch_size=self.clean.batch_size, clean=self.clean)
        delta = found.corpus_delta_nll
        interval = None
        if found.delta_nll is not None and np.isfinite(found.delta_nll).all():
            interval = self._resampler.interval(found.delta_nll)
        return Effect(
            weights=0,
            status=found.overall,
            delta_nll=None if np.isnan(delta) else delta,
            delta_nll_low=None if interval is None else interval.low,
            delta_nll_high=None if interval is None else interval.high,
            kl=None if np.isnan(found.corpus_kl) else found.corpus_kl,
            flip_rate=None if np.isnan(found.flip_rate) else found.flip_rate,
        )

    def changed(self, tensors: Sequence[str], flat: Sequence[int], operation: Operation = zero) -> Effect:
        """Effect of changing some weights, which are put back.

        Raises:
            NumericsError: Not one of them changed, though not all were zero.
        """
        return self.edited(edits_at(tensors, flat), operation)

    def edited(self, edits: Sequence[Edit], operation: Operation = zero, *, allow_unchanged: bool = False) -> Effect:
        """Effect of an edit of any size, which is put back; `weights` counts those that hold other bits.

        Raises:
            NumericsError: Not one weight changed, unless that is allowed, or all were zero (in a pruned model a
                score may name weights that are gone).
        """
        with mutated(self.loaded, edits, operation, allow_unchanged=allow_unchanged or "zeros") as record:
            return Effect(**{**asdict(self.now()), "weights": record.changed})

    def controls(
        self,
        tensors: Sequence[str],
        flat: Sequence[int],
        *,
        draws: int,
        seed: int,
        operation: Operation = zero,
        allowed: Mapping[str, Any] | None = None,
    ) -> list[float]:
        """Delta NLL of random sets of as many weights of the same tensors; infinite where one breaks the model.

        `allowed` tells which part of a tensor they are drawn from, see :func:`matched_control`.
        """
        found = []
        for draw in track(draws, "controls"):
            random = matched_control(tensors, flat, self._sizes, np.random.default_rng([seed, draw]), allowed=allowed)
            effect = self.changed(random.tensors, random.flat_index.tolist(), operation)
            found.append(np.inf if effect.delta_nll is None else effect.delta_nll)
        return found
