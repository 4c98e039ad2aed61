"""A campaign: many mutations of one model, each evaluated against one clean baseline, none of them taken on trust.

What a mutation says it changed is compared with the weights themselves, read here, before, during and after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tremor.errors import NumericsError
from tremor.evaluate import nll
from tremor.models.loader import LoadedModel
from tremor.weights import mutate
from tremor.weights.mutate import Edit, Operation, Unchanged


@dataclass(frozen=True)
class Effect:
    """What one mutation did.

    Attributes:
        requested: Weights that it was asked to change.
        changed: Weights whose bits it changed.
        no_ops: Weights that already were as it makes them.
        evaluation: Likelihoods with the weights changed, compared with the clean model's.
    """

    requested: int
    changed: int
    no_ops: int
    evaluation: nll.Evaluation


class Campaign:
    """One model, one set of texts, one clean baseline.

    Args:
        loaded: The model.
        texts: What effects are measured on.
        batch_size: Texts in one forward.
        memory: Bytes of clean logits that may stay in memory.

    Raises:
        NumericsError: The clean model's likelihood is not finite, or is not the same twice.
    """

    def __init__(self, loaded: LoadedModel, texts: nll.Texts, *, batch_size: int, memory: float = 1e9) -> None:
        self.loaded, self.texts, self.batch_size = loaded, texts, batch_size
        self.clean = nll.baseline(loaded, texts, batch_size=batch_size, memory=memory)
        require_repeat(self._evaluate())

    def effect(self, edits: Sequence[Edit], operation: Operation, *, allow_unchanged: Unchanged = False) -> Effect:
        """Mutate, evaluate, restore.

        Args:
            edits: Which weights.
            operation: What becomes of them.
            allow_unchanged: Whether all of them may already be as the operation makes them, see `mutated`.

        Raises:
            NumericsError: The mutation did not change what it says, or left something changed, or nothing changed and
                the logits did.
        """
        before = self._bits(edits)
        with mutate.mutated(self.loaded, edits, operation, allow_unchanged=allow_unchanged) as record:
            moved = _moved(before, self._bits(edits))
            asked = sum(part.numel() for part in before)
            if (moved, asked) != (record.changed, record.requested):
                raise NumericsError(
                    f"the mutation says it changed {record.changed} of {record.requested} weights, but {moved} of "
                    f"{asked} hold other bits"
                )
            if not moved and not allow_unchanged:
                raise NumericsError(f"a mutation of {asked} weights changed none of them")
            evaluation = self._evaluate()
        if _moved(before, self._bits(edits)):
            raise NumericsError("weights hold other bits after a mutation than before; load the model again")
        if not moved and evaluation.changed is not None and evaluation.changed.any():
            raise NumericsError("logits changed though no weight did")
        return Effect(asked, moved, asked - moved, evaluation)

    def _evaluate(self) -> nll.Evaluation:
        return nll.evaluate(self.loaded, self.texts, batch_size=self.batch_size, clean=self.clean)

    def _bits(self, edits: Sequence[Edit]) -> list[Tensor]:
        """Bits of the edited weights, read through the model's own parameters."""
        found = []
        for edit in edits:
            flat = self.loaded.anatomy.parameter(edit.tensor).detach().reshape(-1)
            chosen = flat.clone() if edit.flat_index is None else flat[edit.flat_index.to(flat.device)]
            found.append(mutate.bits_of(chosen))
        return found


def require_repeat(again: nll.Evaluation) -> None:
    """Refuse a model whose second evaluation is not the clean one, bit for bit.

    Raises:
        NumericsError: It is not.
    """
    if again.changed is None or again.changed.any():
        raise NumericsError(
            "the unchanged model gave other logits the second time; effects cannot be told from noise here: set "
            "probe.threads to 1 or choose a deterministic platform"
        )


def _moved(before: Sequence[Tensor], now: Sequence[Tensor]) -> int:
    return sum(int(torch.count_nonzero(a != b)) for a, b in zip(before, now, strict=True))
