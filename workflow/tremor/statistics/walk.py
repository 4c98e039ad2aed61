"""Statistics of directions, of walks in equal steps, and of counts along turned directions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[Any]
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
EDGES = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, np.inf)  # of the histogram of magnitudes


def describe_direction(vector: Array) -> dict[str, Any]:
    """Moments, percentiles and signs of a direction's coordinates.

    Args:
        vector: [d].
    """
    v = vector.astype(np.float64)
    size = np.abs(v)
    return {
        "dimension": len(v),
        "l2": float(np.linalg.norm(v)),
        "mean": float(v.mean()),
        "median": float(np.median(v)),
        "std": float(v.std()),
        "min": float(v.min()),
        "max": float(v.max()),
        "skewness": float(stats.skew(v)) if v.std() > 0 else None,
        "excess_kurtosis": float(stats.kurtosis(v)) if v.std() > 0 else None,
        "mean_magnitude": float(size.mean()),
        "median_magnitude": float(np.median(size)),
        "min_magnitude": float(size.min()),
        "max_magnitude": float(size.max()),
        "magnitude_percentiles": {str(p): float(np.percentile(size, p)) for p in PERCENTILES},
        "magnitude_edges": [*EDGES[:-1], None],  # the last is open
        "magnitude_counts": np.histogram(size, bins=np.array(EDGES))[0].tolist(),
        "positive": int(np.sum(v > 0)),
        "negative": int(np.sum(v < 0)),
        "zero": int(np.sum(v == 0)),
    }


def summary(values: Array) -> dict[str, float | None]:
    """Mean, standard deviation, least, greatest and median; None where there is no value."""
    v = np.asarray(values, dtype=np.float64)
    if not v.size:
        return dict.fromkeys(("mean", "std", "min", "max", "median"))
    return {
        "mean": float(v.mean()),
        "std": float(v.std()),
        "min": float(v.min()),
        "max": float(v.max()),
        "median": float(np.median(v)),
    }


def walk_statistics(values: Mapping[str, Array], *, distinct_sizes: int, distinct_inputs: int) -> dict[str, Any]:
    """Statistics of one walk.

    Args:
        values: Fields of :class:`tremor.probe.walk.Moves`, each [n].
        distinct_sizes: Nominal sizes that differ in the arithmetic's own format.
        distinct_inputs: Inputs of the walk that differ in bits.

    Returns:
        Counts of steps by what they change; statistics of the jumps, of all differences, and of the spacing
        between jumps in steps, in nominal and in realised units; and the gain over the steps that change the answer.
    """
    into, out = np.asarray(values["input_changed"]) > 0, np.asarray(values["output_changed"]) > 0
    jumps = np.flatnonzero(out)
    difference, realised = np.asarray(values["output_l2"]), np.asarray(values["input_l2"])
    middle = (np.asarray(values["low"]) + np.asarray(values["high"])) / 2
    square = float(np.sum(realised[into] ** 2))
    return {
        "steps": len(out),
        "distinct_sizes": distinct_sizes,
        "distinct_inputs": distinct_inputs,
        "input_unchanged": int(np.sum(~into)),
        "input_changed_output_not": int(np.sum(into & ~out)),
        "both_changed": int(np.sum(into & out)),
        "jumps": len(jumps),
        "jump_percent": 100.0 * len(jumps) / len(out),
        "difference": summary(difference),
        "jump_size": summary(difference[jumps]),
        "input_step": summary(realised[into]),
        "spacing_steps": summary(np.diff(jumps)),
        "spacing_nominal": summary(np.diff(middle[jumps])),
        "spacing_realised": summary(np.diff(np.asarray(values["position"])[jumps])),
        "gain_rms": float(np.sqrt(np.sum(difference[into] ** 2) / square)) if square > 0 else None,
    }


def slope(x: Sequence[float | None], y: Sequence[float | None]) -> float | None:
    """Least-squares slope of log y over log x, over pairs that are there and positive; None for fewer than two."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None and a > 0 and b > 0]
    if len({a for a, _ in pairs}) < 2:
        return None
    logs = np.log10(np.array(pairs))
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def expected_changes(x_ulp: Array, directions: Array, gap: float) -> npt.NDArray[np.float64]:
    """Coordinates that a move by ``gap`` changes on average over where in its ulp each coordinate stands.

    A coordinate crosses a rounding midpoint with probability |gap * d_i| / ulp_i, at most 1.

    Args:
        x_ulp: [d] spacing of the lattice at each coordinate.
        directions: [n, d].
        gap: Length of the move.

    Returns:
        [n].
    """
    share = np.abs(gap * directions.astype(np.float64)) / x_ulp
    expected: npt.NDArray[np.float64] = np.minimum(share, 1.0).sum(axis=1)
    return expected


def count_statistics(kind: Array, count: Array, expected: Array) -> dict[str, Any]:
    """Do counts depend on the kind of direction, or on more than the lattice explains?

    Args:
        kind: [n] name of each direction's kind.
        count: [n] changed coordinates.
        expected: [n] mean of the count if only the lattice mattered; NaN where there is no such model.

    Returns:
        Summary by kind; Kruskal-Wallis test over kinds; index of dispersion (variance / mean, below or near 1 for
        sums of independent coordinates); Spearman correlation with the expectation.
    """
    kinds = list(dict.fromkeys(kind.tolist()))
    groups = [count[kind == name] for name in kinds]
    varies = len(np.unique(count)) > 1
    known = np.isfinite(expected)
    related = varies and known.sum() > 2 and len(np.unique(expected[known])) > 1 and len(np.unique(count[known])) > 1
    return {
        "by_kind": {
            name: {
                **summary(group),
                "dispersion": float(group.var() / group.mean()) if group.size and group.mean() > 0 else None,
            }
            for name, group in zip(kinds, groups, strict=True)
        },
        "kruskal_p": float(stats.kruskal(*groups).pvalue) if varies and len(groups) > 1 else None,
        "spearman_expected": float(stats.spearmanr(count[known], expected[known]).statistic) if related else None,
    }
