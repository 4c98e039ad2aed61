"""Noise directions of unit length, and how far perturbed embeddings and states lie from the originals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
KINDS = ("gaussian", "uniform", "sign", "single_dimension")


def noise_directions(kinds: Sequence[str], positions: int, width: int, *, seed: int) -> dict[str, Array]:
    """For each kind, unit vectors [positions, width], one for every position; the same for every magnitude.

    gaussian: standard normal entries. uniform: in [-1, 1). sign: +-1. single_dimension: the first coordinate alone.
    Each row is divided by its length, so that kinds of one magnitude are equally long.

    Raises:
        ValueError: an unknown kind.
    """
    found: dict[str, Array] = {}
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"unknown kind of noise '{kind}'; one of {', '.join(KINDS)}")
        generator = np.random.default_rng([seed, KINDS.index(kind)])  # a kind's draw does not depend on the others
        if kind == "gaussian":
            rows = generator.normal(size=(positions, width))
        elif kind == "uniform":
            rows = generator.uniform(-1, 1, size=(positions, width))
        elif kind == "sign":
            rows = generator.choice([-1.0, 1.0], size=(positions, width))
        else:
            rows = np.zeros((positions, width))
            rows[:, 0] = 1.0
        found[kind] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def token_metrics(before: Array, after: Array) -> dict[str, float]:
    """Differences of embeddings [T, d] in float64: of all together, and of single tokens.

    Returns:
        embedding_diff (length over all tokens), relative_embedding_diff (over the length of the original), diff_mean
        and diff_std of the entries, and mean, std, min and max over tokens of the difference's length and of the
        cosine; std divides by the number of tokens, so that one token has 0. A token that noise has made zero has no
        cosine and is left out.
    """
    a, b = before.astype(np.float64), after.astype(np.float64)
    step = b - a
    length = np.linalg.norm(step, axis=1)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.sum(a * b, axis=1)[norms > 0] / norms[norms > 0]
    total, own = float(np.linalg.norm(step)), float(np.linalg.norm(a))
    result = {
        "embedding_diff": total,
        "relative_embedding_diff": total / own if own else np.nan,
        "diff_mean": float(step.mean()),
        "diff_std": float(step.std()),
    }
    for name, values in (("norm", length), ("cosine", np.clip(cosine, -1.0, 1.0))):
        for what in ("mean", "std", "min", "max"):
            result[f"per_token_{name}_{what}"] = float(getattr(values, what)()) if values.size else np.nan
    return result


def state_metrics(before: Array, after: Array, side: str) -> dict[str, float]:
    """Difference of two states [d] in float64; ``side`` is ``before`` or ``after`` the final norm."""
    a, b = before.astype(np.float64), after.astype(np.float64)
    product = float(np.linalg.norm(a) * np.linalg.norm(b))
    return {
        f"hidden_l2_{side}_norm": float(np.linalg.norm(b - a)),
        f"hidden_cosine_{side}_norm": float(np.clip(a @ b / product, -1.0, 1.0)) if product else np.nan,
        f"hidden_norm_{side}_orig": float(np.linalg.norm(a)),
        f"hidden_norm_{side}_pert": float(np.linalg.norm(b)),
    }
