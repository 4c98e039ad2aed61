"""Noise floors: distances of answers from exact ones, and their summary over prompts."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

UNIT_ROUNDOFF = {"float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
"""Half the spacing of the floats just above 1: the largest relative error of one rounding to nearest."""


def distances(answer: npt.NDArray[Any], exact: npt.NDArray[np.float64]) -> tuple[float, float]:
    """How far an answer lies from the exact one.

    Args:
        answer: Values [n] of any float type.
        exact: The exact values [n], not all zero.

    Returns:
        Length of the difference over the length of the exact one, and the largest difference of an entry, both
        computed in float64.
    """
    difference = answer.astype(np.float64) - exact
    return float(np.linalg.norm(difference) / np.linalg.norm(exact)), float(np.abs(difference).max())


def summarise(prompts: pd.DataFrame) -> pd.DataFrame:
    """One row for each type and mode, in the order in which they first occur.

    Args:
        prompts: One row for each type, mode and prompt, with the columns of prompts.csv.

    Returns:
        Medians and maxima over the prompts, and counts of prompts.
    """
    rows = []
    for (dtype, mode), own in prompts.groupby(["dtype", "mode"], sort=False):
        median = float(own["state_relative_l2"].median())
        rows.append(
            {
                "dtype": dtype,
                "mode": mode,
                "attention": own["attention"].iloc[0],
                "batch_size": int(own["batch_size"].iloc[0]),
                "prompts": len(own),
                "state_median": median,
                "state_max": float(own["state_relative_l2"].max()),
                "state_median_roundoffs": median / UNIT_ROUNDOFF[str(dtype)],
                "logits_median": float(own["logits_relative_l2"].median()),
                "logits_max": float(own["logits_relative_l2"].max()),
                "logit_error_median": float(own["logit_error"].median()),
                "logit_error_max": float(own["logit_error"].max()),
                "weights_median": float(own["weights_relative_l2"].median()),
                "weights_max": float(own["weights_relative_l2"].max()),
                "tokens_changed": int(own["token_changed"].sum()),
                "controls_exact": int(own["control_exact"].sum()),
                "logits_exact": int(own["logits_exact"].sum()),
                "controls_worst_ulps": int(own["control_worst_ulps"].max()),
                "bits": own["bits"].iloc[0],
                "gate_relative_error": float(own["gate_relative_error"].max()),
            }
        )
    return pd.DataFrame(rows)
