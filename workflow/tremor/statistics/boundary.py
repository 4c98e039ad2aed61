"""Summary statistics of stability boundaries and of the distances at them (experiments 12, 13 and 15)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[Any]


def describe(values: Array) -> dict[str, float | None]:
    """Mean, median, min, max, standard deviation and range of the finite values; None for each where there is none."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    names = ("mean", "median", "min", "max", "std", "range")
    if not finite.size:
        return dict.fromkeys(names)
    low, high = float(finite.min()), float(finite.max())
    spread = (float(finite.mean()), float(np.median(finite)), low, high, float(finite.std()), high - low)
    return dict(zip(names, spread, strict=True))


def _at(values: Array, key: Array, pick: str) -> float | None:
    finite = np.isfinite(values)
    if not finite.any():
        return None
    fill = np.inf if pick == "argmin" else -np.inf
    return float(key[int(getattr(np, pick)(np.where(finite, values, fill)))])


def boundary_counts(censored: Array, certified: Array, max_s: Array, evaluations: Array) -> dict[str, int | float]:
    """How the search ended: rays, certified, censored, with a boundary above zero, and its cost."""
    return {
        "rays": len(max_s),
        "certified_rays": int(np.sum(certified)),
        "censored_rays": int(np.sum(censored)),
        "nonzero_rays": int(np.sum(np.asarray(max_s) > 0)),
        "mean_evaluations": float(np.mean(evaluations)),
    }


def angle_statistics(theta: Array, data: Mapping[str, Array]) -> dict[str, Any]:
    """Statistics of a boundary over angles; censored rays count, but are left out of the values.

    Args:
        theta: [n] radians, evenly spaced over the circle.
        data: ``max_s``, ``first_breakpoint``, ``censored``, ``certified``, ``evaluations``, each [n].
    """
    censored = np.asarray(data["censored"], dtype=bool)
    max_s = np.where(censored, np.nan, np.asarray(data["max_s"], dtype=np.float64))
    degrees = np.degrees(theta)
    cardinal = {}
    for name, angle in (("e1", 0.0), ("e2", 90.0), ("minus_e1", 180.0), ("minus_e2", 270.0)):
        gap = np.abs((degrees - angle + 180.0) % 360.0 - 180.0)  # circular: 359.9 degrees is near 0
        nearest = int(np.argmin(gap))
        value = max_s[nearest]
        cardinal[name] = {
            "angle_degrees": float(degrees[nearest]),
            "max_s": float(value) if np.isfinite(value) else None,
        }
    ratio = max_s / np.asarray(data["first_breakpoint"], dtype=np.float64)
    return {
        **boundary_counts(censored, data["certified"], data["max_s"], data["evaluations"]),
        **{f"max_s_{name}": value for name, value in describe(max_s).items()},
        "argmin_angle_degrees": _at(max_s, degrees, "argmin"),
        "argmax_angle_degrees": _at(max_s, degrees, "argmax"),
        "median_max_s_over_first_breakpoint": describe(ratio)["median"],
        "cardinal": cardinal,
    }


def vector_statistics(data: Mapping[str, Array]) -> dict[str, Any]:
    """Statistics of boundaries along singular vectors, and of the random control beside them.

    A boundary that depended on the input's number format alone would look the same along random directions, so the
    two groups are compared (two-sided Mann-Whitney U), and max_s is related to sigma by rank (Spearman).

    Args:
        data: ``kind`` ("singular" or "random"), ``vector``, ``sign``, ``sigma``, ``max_s``, ``censored``,
            ``certified``, ``evaluations``, each [n].
    """
    kind = np.asarray(data["kind"]).astype(str)
    censored = np.asarray(data["censored"], dtype=bool)
    max_s = np.where(censored, np.nan, np.asarray(data["max_s"], dtype=np.float64))
    found: dict[str, Any] = boundary_counts(censored, data["certified"], data["max_s"], data["evaluations"])
    for name in ("singular", "random"):
        group = max_s[kind == name]
        found[name] = {"rays": len(group), **{f"max_s_{k}": v for k, v in describe(group).items()}}
    singular = kind == "singular"
    usable = singular & np.isfinite(max_s)
    for pick in ("argmin", "argmax"):
        place = _at(max_s[singular], np.asarray(data["vector"])[singular], pick)
        found[f"{pick}_vector"] = None if place is None else int(place)  # a number of a vector, not a size
    found["spearman_max_s_sigma"], found["spearman_p"] = _spearman(np.asarray(data["sigma"])[usable], max_s[usable])
    control = max_s[(kind == "random") & np.isfinite(max_s)]
    found["mann_whitney_p"] = None
    if usable.any() and control.size:
        found["mann_whitney_p"] = float(stats.mannwhitneyu(max_s[usable], control).pvalue)
    found["median_abs_log10_sign_ratio"] = _sign_asymmetry(data, max_s, singular)
    return found


def _spearman(a: Array, b: Array) -> tuple[float | None, float | None]:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None, None
    result = stats.spearmanr(a, b)
    return float(result.statistic), float(result.pvalue)


def _sign_asymmetry(data: Mapping[str, Array], max_s: Array, singular: Array) -> float | None:
    """Median over vectors of |log10(max_s along +v / max_s along -v)|; None where only one sign was run."""
    vector, sign = np.asarray(data["vector"]), np.asarray(data["sign"])
    plus = {int(v): s for v, s in zip(vector[singular & (sign > 0)], max_s[singular & (sign > 0)], strict=True)}
    minus = {int(v): s for v, s in zip(vector[singular & (sign < 0)], max_s[singular & (sign < 0)], strict=True)}
    ratios = [abs(np.log10(plus[v] / minus[v])) for v in plus.keys() & minus.keys() if plus[v] > 0 and minus[v] > 0]
    finite = [r for r in ratios if np.isfinite(r)]
    return float(np.median(finite)) if finite else None


def distance_summary(data: Mapping[str, Array]) -> dict[str, Any]:
    """What exp15 says of the distances at all boundaries; the row of its summary is a part of it.

    ``hidden_over_embedding`` is the noise floor over the input's quantum: it doubles when the quantum halves, so it
    is no gain. The gain of the smooth map is ``gain_smooth``, ||J step|| / ||step||.

    Args:
        data: ``embedding_l2``, ``hidden_l2``, ``smooth_prediction_l2``, ``noise_floor_l2``, ``certified``,
            ``censored``, ``violations``, each [n].
    """
    crossed = ~np.asarray(data["censored"], dtype=bool)
    row: dict[str, Any] = {
        "rays": len(crossed),
        "certified_rays": int(np.sum(data["certified"])),
        "censored_rays": int(np.sum(~crossed)),
        "violations": int(np.sum(data["violations"])),
    }
    columns = {name: np.asarray(data[name], dtype=np.float64)[crossed] for name in _DISTANCES}
    for name in ("embedding_l2", "hidden_l2"):
        found = describe(columns[name])
        row.update({f"{name}_{k}": found[k] for k in ("mean", "median", "min", "max", "std")})
    mean = {name: float(values.mean()) if values.size else float("nan") for name, values in columns.items()}
    floor = float(np.median(columns["noise_floor_l2"])) if crossed.any() else float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):
        row["hidden_over_embedding"] = float(np.divide(mean["hidden_l2"], mean["embedding_l2"]))
        row["gain_smooth"] = float(np.divide(mean["smooth_prediction_l2"], mean["embedding_l2"]))
    row["noise_floor_l2"] = floor
    return row


_DISTANCES = ("embedding_l2", "hidden_l2", "smooth_prediction_l2", "noise_floor_l2")
