"""Intervals of means over two crossed kinds of chance: random draws and texts. No torch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tremor.errors import NumericsError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Crossed:
    """A mean over draws and texts.

    Attributes:
        mean: Over all draws and tokens.
        low: Lower end of the interval over both.
        high: Upper end.
        draw_std: Standard deviation (n - 1) of the draws' means on these very texts.
    """

    mean: float
    low: float
    high: float
    draw_std: float


class CrossedBootstrap:
    """Resamples of draws and of texts, made once so that all levels of a sweep are judged by the same ones.

    Args:
        draws: Number of draws, at least 2.
        tokens: int [texts], weights of the texts, at least 2 of them.
        resamples: Number of resamples.
        seed: Their seed.

    Raises:
        NumericsError: There is nothing to resample.

    Source of the method: the pigeonhole bootstrap (Owen 2007): rows and columns are resampled independently. Its
    variance is at least the true one, so the interval is rather too wide than too narrow.
    """

    def __init__(self, draws: int, tokens: npt.ArrayLike, *, resamples: int = 1000, seed: int = 0) -> None:
        self.tokens: Floats = np.asarray(tokens, dtype=np.float64)
        texts = len(self.tokens)
        if draws < 2 or texts < 2:
            raise NumericsError(f"{draws} draw(s) on {texts} text(s) have no interval; two of each are needed")
        rng = np.random.default_rng(seed)
        self._draws = rng.multinomial(draws, np.full(draws, 1 / draws), size=resamples) / draws
        self._texts = rng.multinomial(texts, np.full(texts, 1 / texts), size=resamples) * self.tokens
        self._totals = self._texts.sum(1)

    def mean(self, per_token: npt.ArrayLike, *, confidence: float = 0.95) -> Crossed:
        """Mean and percentile interval.

        Args:
            per_token: float [draws, texts], mean of each text under each draw, per token.
            confidence: Share of the resamples inside.

        Raises:
            NumericsError: A value is not finite, or the shape is another.
        """
        values = np.asarray(per_token, dtype=np.float64)
        if values.shape != (self._draws.shape[1], len(self.tokens)):
            raise NumericsError(f"values of shape {values.shape} are not {self._draws.shape[1]} draws of these texts")
        if not np.isfinite(values).all():
            raise NumericsError("a mean with a value that is not finite has no interval; report its status")
        own = values @ self.tokens / self.tokens.sum()
        means = np.einsum("rd,dt,rt->r", self._draws, values, self._texts, optimize=True) / self._totals
        low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Crossed(float(own.mean()), float(low), float(high), float(own.std(ddof=1)))
