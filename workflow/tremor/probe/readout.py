"""The readout: which token the model chooses for an exact input, and by how much, over the whole vocabulary.

Logits are ``unembed(h)`` in one fixed number of rows, the last chunk padded: the shape of the matrix product is part
of its rounding, as it is for the response (design.md 5.1), and it has an A/A control of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tremor.errors import NumericsError, PlatformError
from tremor.probe.base import BasePoint, to_array, to_tensor
from tremor.probe.response import Response, as_bits

Array = npt.NDArray[Any]
LOGIT_BYTES = 24  # of one logit while it is looked at: itself, a float64 copy, and that copy's exponential


@dataclass(frozen=True)
class Decisions:
    """What the model chooses for each of m inputs.

    Of several tokens that share the highest logit the one with the lowest id is chosen, as ``argmax`` does; ``leaders``
    says how many they are, so that a tie is never taken for a choice.
    """

    token: npt.NDArray[np.int64]  # [m] chosen token
    leaders: npt.NDArray[np.int64]  # [m] tokens that share the highest logit, 1 where there is no tie
    runner_up: npt.NDArray[np.int64]  # [m] the token with the highest logit among the others
    top: Array  # [m, 2] logits of these two, carrier dtype of the logits
    logits: Array  # [m, k] of the tokens asked for, in their order
    log_normaliser: npt.NDArray[np.float64]  # [m] log of the sum of exp(logits), summed in float64
    final: Array  # [m, width] the states that were read

    @property
    def probability(self) -> npt.NDArray[np.float64]:
        """[m] of the chosen token."""
        value: npt.NDArray[np.float64] = np.exp(self.top[:, 0].astype(np.float64) - self.log_normaliser)
        return value


class Readout:
    """Logits and decisions for the answers of a response.

    Args:
        response: Answers with tap ``final`` first.
        max_memory: Bytes that the logits of one chunk may take.

    Raises:
        PlatformError: not even one row at a time gives logits that are a function of the state's bits alone.
    """

    def __init__(self, response: Response, *, max_memory: float = 2 * 2**30) -> None:
        if response.taps[0] != "final":
            raise ValueError(f"logits are read from tap 'final', but the response answers with '{response.taps[0]}'")
        self.response = response
        self._anatomy = response.loaded.anatomy
        fitting = max(1, int(max_memory / (LOGIT_BYTES * self._anatomy.vocab)))
        self.rows = response.batch_size
        while self.rows > 1 and (self.rows > fitting or not self._exact()):
            self.rows //= 2
        if self.rows == 1 and not self._exact():
            raise PlatformError(
                "the same state gave different logits twice, so no choice of a token can be located here; check "
                "deterministic kernels with `tremor doctor`, or use device: cpu"
            )

    @torch.no_grad()
    def _exact(self) -> bool:
        """Equal rows, equal runs, and rows among others, give equal bits."""
        model = self._anatomy.unembedding.weight
        assert isinstance(model, torch.Tensor)
        state = to_tensor(self.response.h0, model)[None].repeat(self.rows, 1)
        first, again = self._anatomy.unembed(state), self._anatomy.unembed(state)
        same = torch.equal(as_bits(first), as_bits(again))
        same &= torch.equal(as_bits(first), as_bits(first[:1].expand_as(first)))
        mixed = state.clone()
        mixed[1::2] = -2 * mixed[1::2]
        beside = self._anatomy.unembed(mixed)
        return same and torch.equal(as_bits(first[::2]), as_bits(beside[::2]))

    def logits(self, final: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """Logits [k, vocab] of states [m, width], a chunk at a time, each chunk padded to the fixed shape."""
        for start in range(0, len(final), self.rows):
            part = final[start : start + self.rows]
            missing = self.rows - len(part)
            if missing:
                padding = to_tensor(self.response.h0, part)[None].expand(missing, -1)
                part = torch.cat([part, padding])
            found = self._anatomy.unembed(part)[: self.rows - missing]
            if not bool(torch.isfinite(found).all()):
                raise NumericsError("a logit is NaN or infinite; lower the step or widen probe.dtype")
            yield slice(start, start + len(found)), found

    @torch.no_grad()
    def decide(self, inputs: Array, tokens: Sequence[int] = ()) -> Decisions:
        """Choices for inputs [m, d_in], and the logits of some tokens.

        Raises:
            NumericsError: an answer is NaN or infinite.
        """
        columns = list(tokens)
        parts: list[tuple[Array, ...]] = []
        for _, answer in self.response.batches(inputs):
            final = answer[self.response.taps[0]]
            for rows, values in self.logits(final):
                token = values.argmax(dim=1)  # the first of equal maxima
                top = values.gather(1, token[:, None])
                rest = values.scatter(1, token[:, None], -torch.inf)
                second = rest.argmax(dim=1)
                parts.append(
                    (
                        token.cpu().numpy(),
                        (values == top).sum(dim=1).cpu().numpy(),
                        second.cpu().numpy(),
                        to_array(torch.cat([top, values.gather(1, second[:, None])], dim=1)),
                        to_array(values[:, columns]),
                        torch.logsumexp(values.double(), dim=1).cpu().numpy(),
                        to_array(final[rows]),
                    )
                )
        if not parts:
            raise ValueError("decide needs at least one input")
        return Decisions(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def direction(self, first: int, second: int) -> tuple[npt.NDArray[np.float64], float]:
        """Difference of two rows of the unembedding [width] and of their biases, in float64."""
        module = self._anatomy.unembedding
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        rows = to_array(weight[[first, second]]).astype(np.float64)
        bias = getattr(module, "bias", None)
        offset = to_array(bias[[first, second]]).astype(np.float64) if bias is not None else np.zeros(2)
        return rows[0] - rows[1], float(offset[0] - offset[1])


class TokenChoice:
    """The chosen token as an answer, so that :func:`tremor.probe.boundary.find_boundaries` finds where it flips.

    An answer is [token, logits of the watched tokens ...] in float64; it has changed if its token is not the one that
    is chosen at the base point.
    """

    def __init__(self, readout: Readout, tokens: Sequence[int]) -> None:
        self._readout = readout
        self._tokens = tuple(tokens)
        self.base: BasePoint = readout.response.base
        self.batch_size = readout.response.batch_size
        self.h0 = self.evaluate(self.base.x[None])[0]

    @property
    def rows_evaluated(self) -> int:
        """Rows the model has run."""
        return self._readout.response.rows_evaluated

    @property
    def reference(self) -> int:
        """The token chosen at the base point."""
        return int(self.h0[0])

    def evaluate(self, inputs: Array) -> Array:
        """Answers [m, 1 + tokens] to inputs [m, d_in]."""
        if not len(inputs):
            return np.zeros((0, 1 + len(self._tokens)))
        found = self._readout.decide(inputs, self._tokens)
        return np.column_stack([found.token.astype(np.float64), found.logits.astype(np.float64)])

    def changed(self, inputs: Array, *, threshold: float = 0.0) -> tuple[npt.NDArray[np.bool_], Array]:
        """Which inputs [m, d_in] are answered with another token, and all answers."""
        if threshold != 0:
            raise ValueError("tokens are equal or not: the threshold must be 0")
        answers = self.evaluate(inputs)
        return answers[:, 0] != self.h0[0], answers
