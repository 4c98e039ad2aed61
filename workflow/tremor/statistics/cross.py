"""The cross-examination's numbers: relative changes against the clean model, judged by matched random controls."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tremor.evaluate.effects import contrast

# Quantities that are compared with controls: column of a reading, and whether its change is relative.
JUDGED = {"sigma_1": True, "floor": True, "boundary": True, "nll": False}
DEEP = ("boundary", "nll")  # measured for some of the controls only


def change(clean: float, value: float, *, relative: bool) -> float:
    """The relative change, or the difference; NaN where either value is unknown, infinite where it left zero."""
    if np.isnan(value) or np.isnan(clean):
        return float("nan")
    if not relative:
        return value - clean
    if clean == 0:
        return 0.0 if value == 0 else float(np.copysign(np.inf, value))
    return value / clean - 1


def against(effect: float, controls: Sequence[float]) -> dict[str, float]:
    """An effect of either sign beside those of its controls.

    A control that is not a number (its model has no finite answer) counts as an infinite effect.

    Args:
        effect: Change by the set.
        controls: Changes by the random sets.

    Returns:
        control_mean, control_std (n - 1), z = (effect - mean) / std, and the two-sided empirical p: the share of
        controls whose change is at least as large in magnitude, the effect itself counted. NaN where there is none.
    """
    values = np.array([np.inf if np.isnan(c) else c for c in controls], dtype=np.float64)
    if np.isnan(effect) or len(values) < 2:
        return dict.fromkeys(("control_mean", "control_std", "z", "p"), float("nan"))
    finite = bool(np.isfinite(values).all())
    signed = contrast(effect, values) if finite else None
    size = contrast(abs(effect), np.abs(values))
    return {
        "control_mean": signed.mean if signed else float("nan"),
        "control_std": signed.std if signed else float("nan"),
        "z": signed.z if signed and signed.z is not None else float("nan"),
        "p": size.p,
    }


def judged(
    clean: Mapping[str, Any], changed: Mapping[str, Any], controls: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Change of every quantity, and its comparison with the controls that were measured for it.

    Args:
        clean: Reading of the clean model.
        changed: Reading of the changed model.
        controls: Readings of the controls; those with `deep` false lack the quantities of :data:`DEEP`.

    Returns:
        Columns `<quantity>_change`, `<quantity>_control_mean`, `_control_std`, `_z`, `_p`; "delta_nll" is the name of
        the change of the NLL.
    """
    row: dict[str, float] = {}
    for name, relative in JUDGED.items():
        stem, column = ("delta_nll", "delta_nll") if name == "nll" else (name, f"{name}_change")
        effect = change(clean[name], changed[name], relative=relative)
        own = [c for c in controls if c["deep"] or name not in DEEP]
        drawn = [change(clean[name], c[name], relative=relative) for c in own]
        row[column] = effect
        row |= {f"{stem}_{key}": value for key, value in against(effect, drawn).items()}
    return row


def findings(table: pd.DataFrame) -> dict[str, Any]:
    """What a table says as a whole: largest changes, how many sets stand out, and whether effects go together.

    Args:
        table: Rows of cross.csv.

    Returns:
        For each quantity `largest` (the change of largest magnitude) and `outstanding` (sets whose change is larger
        than that of every control: least possible p), `tested` (sets with controls), `outstanding_by_chance` (expected
        number of outstanding sets if sets were as random as controls); `spearman_nll_<quantity>`, the
        rank correlation of |change| with |delta NLL| over sets, None with fewer than three.
    """
    found: dict[str, Any] = {}
    for name in JUDGED:
        stem = "delta_nll" if name == "nll" else name
        values = table["delta_nll" if name == "nll" else f"{name}_change"].to_numpy(dtype=np.float64)
        finite = values[np.isfinite(values)]
        p = table[f"{stem}_p"].to_numpy(dtype=np.float64)
        draws = table["deep_controls" if name in DEEP else "controls"].to_numpy(dtype=np.float64)
        found[stem] = {
            "largest": float(finite[np.argmax(np.abs(finite))]) if finite.size else None,
            "outstanding": int(np.sum(p <= 1 / (1 + draws))),
            "tested": int(np.isfinite(p).sum()),
            "outstanding_by_chance": float(np.sum(1 / (1 + draws[np.isfinite(p)]))),
        }
    nll = table["delta_nll"].abs()
    for name in ("sigma_1", "floor", "boundary"):
        both = pd.DataFrame({"a": table[f"{name}_change"].abs(), "b": nll}).replace(np.inf, np.nan).dropna()
        constant = both["a"].nunique() < 2 or both["b"].nunique() < 2
        ranks = both.rank()
        found[f"spearman_nll_{name}"] = (
            None if len(both) < 3 or constant else float(np.corrcoef(ranks["a"], ranks["b"])[0, 1])
        )
    return found
