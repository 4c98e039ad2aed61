"""Tables of delta/jacobian: medians, ranges and ratios over the texts, from what was measured at each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Float = npt.NDArray[np.float64]
SOURCES = ("last", "all")
NOISES = ("absolute", "relative_all", "relative_last")


@dataclass(frozen=True)
class Model:
    """What the tables say of the model itself."""

    n_layers: int
    mixers: tuple[str, ...]  # kind of mixer of each block
    dtype: str


def layer_table(
    model: Model,
    layers: Sequence[int],
    gains: Mapping[str, npt.NDArray[Any]],
    noisy: Mapping[str, Float],
    secants: Mapping[int, Float],
    ranks: pd.DataFrame,
    last: Mapping[int, Sequence[Float]],
    logits: Float,
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    """One row for each layer: see docs/delta.md.

    Args:
        model: What the table says of the model itself.
        layers: Numbers of the blocks.
        gains: [layers, texts] by name.
        noisy: Finite differences [layers, texts, draws] by name.
        secants: Slopes of each layer.
        ranks: Effective ranks, table ranks.csv.
        last: Layer to the last position's state of each text.
        logits: [texts, vocab] of the last positions.
        settings: Config block ``delta.jacobian``.
    """
    rows = []
    centred = logits - logits.mean(axis=1, keepdims=True)
    shared = min(int(settings["gain_texts"]), int(settings["sensitivity_texts"]), len(logits))
    for place, layer in enumerate(layers):
        row = gain_row(model, layer, place, gains, settings["targets"])
        row |= _sensitivity_columns(gains, noisy, place, shared)
        slopes = secants[layer]
        pairs = min(int(settings["pairs"]), len(logits) - 1)
        row |= {
            "secant_max": float(slopes.max()) if len(slopes) else float("nan"),
            "secant_mean": float(slopes.mean()) if len(slopes) else float("nan"),
            "secant_pairs": len(slopes),
            "secant_skipped": pairs - len(slopes),
            "state_norm_last": float(np.median([np.linalg.norm(state) for state in last[layer]])),
            "output_variance": float(logits.var(axis=0, ddof=1).mean()),
            "output_variance_centred": float(centred.var(axis=0, ddof=1).mean()),
            "texts": len(logits),
            "epsilon": float(settings["epsilon"]),
            "dtype": model.dtype,
        }
        for each in ranks[ranks["layer"] == layer].to_dict("records"):
            name = f"{each['level']}_{each['centring']}_{each['spectrum']}"
            row[f"erank_{name}"] = each["effective_rank"]
            row[f"erank_{name}_corrected"] = each["corrected"]
            row[f"{each['level']}_states"] = each["samples"]
            row[f"participation_ratio_{each['level']}"] = each["participation_ratio"]
        rows.append(row)
    return pd.DataFrame(rows)


def gain_row(
    model: Model, layer: int, place: int, gains: Mapping[str, npt.NDArray[Any]], targets: Sequence[str]
) -> dict[str, Any]:
    """The columns of one layer that its gains alone give.

    Args:
        model: What the table says of the model itself.
        layer: Number of the block.
        place: Its row in the gains.
        gains: [layers, texts] by name.
        targets: What was differentiated.
    """
    row: dict[str, Any] = {
        "layer": layer,
        "n_layers": model.n_layers,
        "relative_depth": (layer + 1) / model.n_layers,
        "mixer": model.mixers[layer],
    }
    for target in ("logits", "centred_logits", "final"):
        for source in SOURCES:
            if target != "centred_logits" or target in targets:
                row |= _gain_columns(gains, f"{source}_{target}", place)
    asked = [np.asarray(gains[name][place]) for name in gains if name.startswith("converged_")]
    residuals = [np.asarray(gains[name][place]) for name in gains if name.startswith("residual_")]
    return {
        **row,
        "gain_texts": next(iter(gains.values())).shape[1],
        "max_residual": float(np.max(residuals)),
        "unconverged": int(sum(int((~each).sum()) for each in asked)),
    }


def _gain_columns(gains: Mapping[str, npt.NDArray[Any]], name: str, place: int) -> dict[str, float]:
    """Median over the texts, and for the spectral norm the range too; NaN where the target was not asked for."""

    def values(what: str) -> Float:
        found = gains.get(f"{what}_{name}")
        return np.full(1, np.nan) if found is None else np.asarray(found[place], dtype=np.float64)

    spectral = values("spectral")
    return {
        f"spectral_{name}": float(np.median(spectral)),
        f"spectral_{name}_min": float(spectral.min()),
        f"spectral_{name}_max": float(spectral.max()),
        f"frobenius_{name}": float(np.median(values("frobenius"))),
        f"frobenius_{name}_error": float(np.median(values("frobenius_error"))),
        f"typical_{name}": float(np.median(values("typical"))),
        **{
            f"relative_{kind}_{name}{ending}": float(reduce(values(f"relative_{kind}")))
            for kind in ("worst", "typical")
            for ending, reduce in (("", np.median), ("_min", np.min), ("_max", np.max))
        },
    }


def _sensitivity_columns(
    gains: Mapping[str, npt.NDArray[Any]], noisy: Mapping[str, Float], place: int, shared: int
) -> dict[str, Any]:
    """Means over draws, then mean and standard deviation over texts; and the ratio to what the derivative predicts."""
    row: dict[str, Any] = {}
    for noise in NOISES:
        ratio, relative = noisy[f"ratio_{noise}"][place], noisy[f"relative_{noise}"][place]
        means = ratio.mean(axis=1)
        row[f"sensitivity_{noise}_mean"] = float(means.mean())
        row[f"sensitivity_{noise}_std"] = float(means.std(ddof=1)) if len(means) > 1 else float("nan")
        row[f"sensitivity_{noise}_gain_mean"] = float(relative.mean())
        row[f"sensitivity_{noise}_step_mean"] = float(noisy[f"relative_step_{noise}"][place].mean())
    for source in SOURCES:
        typical = gains.get(f"typical_{source}_logits")
        seen = np.sqrt((noisy[f"ratio_relative_{source}"][place, :shared] ** 2).mean(axis=1))
        over = seen / typical[place, :shared] if typical is not None else np.full(1, np.nan)
        row[f"sensitivity_relative_{source}_over_derivative"] = float(np.median(over))
    return {**row, "sensitivity_texts": noisy["ratio_absolute"].shape[1], "draws": noisy["ratio_absolute"].shape[2]}


def document(
    rows: pd.DataFrame, gains: Mapping[str, npt.NDArray[Any]], secants: Mapping[int, Float], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What gain.json says of all layers."""
    names = [name.removeprefix("spectral_") for name in gains if name.startswith("spectral_")]
    largest = {}
    for name in names:
        column = rows[f"spectral_{name}"]
        largest[name] = {"value": float(column.max()), "layer": int(rows["layer"][int(column.to_numpy().argmax())])}
    return {
        "layers": [int(layer) for layer in rows["layer"]],
        "largest_spectral": largest,
        "iterations_mean": {name: float(gains[f"iterations_{name}"].mean()) for name in names},
        "max_residual": float(rows["max_residual"].max()),
        "unconverged": int(rows["unconverged"].sum()),
        "secants_kept": int(sum(len(slopes) for slopes in secants.values())),
        "output_variance": float(rows["output_variance"].iloc[0]),
        "texts": int(rows["texts"].iloc[0]),
        "gain_texts": int(rows["gain_texts"].iloc[0]),
        "epsilon": float(settings["epsilon"]),
        "probes": int(settings["probes"]),
        "tolerance": float(settings["tolerance"]),
    }
