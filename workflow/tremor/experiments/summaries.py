"""Summary tables: one row for each selected model, prompt and variant, gathered from the statistics files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tremor.errors import ArtifactError
from tremor.store.documents import read_json
from tremor.store.provenance import collect
from tremor.store.tables import read_csv, write_csv

# Columns of results/<exp>/summary.csv after the names of the row; a stable interface, documented in docs/.
DISTANCES = (
    "rays", "certified_rays", "censored_rays", "violations",
    "embedding_l2_mean", "embedding_l2_median", "embedding_l2_min", "embedding_l2_max",
    "hidden_l2_mean", "hidden_l2_median", "hidden_l2_min", "hidden_l2_max",
    "hidden_over_embedding", "gain_smooth", "noise_floor_l2", "mode", "dtype", "device",
)  # fmt: skip
ANGLES = (
    "rays", "certified_rays", "censored_rays", "nonzero_rays", "mean_evaluations",
    "max_s_mean", "max_s_median", "max_s_min", "max_s_max", "max_s_std", "max_s_range",
    "argmin_angle_degrees", "argmax_angle_degrees",
    "cardinal.e1.max_s", "cardinal.e2.max_s", "cardinal.minus_e1.max_s", "cardinal.minus_e2.max_s",
    "median_max_s_over_first_breakpoint", "mode", "dtype", "method", "threshold",
)  # fmt: skip
VECTORS = (
    "rays", "certified_rays", "censored_rays", "nonzero_rays", "mean_evaluations",
    "singular.rays", "singular.max_s_mean", "singular.max_s_median", "singular.max_s_min", "singular.max_s_max",
    "random.rays", "random.max_s_mean", "random.max_s_median", "random.max_s_min", "random.max_s_max",
    "argmin_vector", "argmax_vector", "spearman_max_s_sigma", "spearman_p", "mann_whitney_p",
    "median_abs_log10_sign_ratio", "mode", "dtype", "method", "threshold",
)  # fmt: skip
PROPAGATION = (
    "evaluated_inputs", "walk.steps", "walk.distinct_inputs", "walk.input_changes", "walk.first_block_changes",
    "walk.final_changes", "sweep.embedding_count_last", "sweep.embedding_max_diff_last",
    "sweep.first_block_count_last", "sweep.first_block_max_diff_last", "propagation.first_moving_jump",
    "propagation.gain_first", "propagation.gain_min", "propagation.gain_max", "sigma_1", "gate.relative_error",
    "start", "step", "threshold", "first_block", "mode", "dtype",
)  # fmt: skip
ROTATIONS = (
    "directions", "largest_jump.jump",
    *(f"largest_jump.{tap}.{what}" for tap in ("embedding", "first_block") for what in (
        "by_kind.shift.mean", "by_kind.plane.mean", "by_kind.random.mean", "kruskal_p")),
    "largest_jump.embedding.spearman_expected", "largest_jump.unmoved", "largest_jump.moved_unanswered",
    "evaluated_inputs", "start", "step", "threshold", "first_block", "mode", "dtype",
)  # fmt: skip
SMALL_STEPS = (
    "finest.step_size", "finest.steps", "finest.distinct_sizes", "finest.distinct_inputs", "finest.input_unchanged",
    "finest.input_changed_output_not", "finest.both_changed", "finest.jump_size.mean", "finest.jump_size.median",
    "finest.spacing_steps.mean", "finest.spacing_realised.mean", "finest.gain_rms",
    "scaling.slope_jump_size", "scaling.slope_mean_difference", "sigma", "noise_floor_l2", "evaluated_inputs",
    "start", "mode", "dtype",
)  # fmt: skip
FLIPS = (
    "tie.first_token", "tie.second_token", "tie.evaluations", "tie.gradients", "tie.reselections", "tie.is_top_2",
    "tie.closed", "tie.distance_l2", "tie.distance_over_x_l2", "tie.start_gap", "tie.gap_float64", "tie.gap_dot",
    "tie.gap_difference_of_dots", "tie.gap_unembed", "tie.gap_probability", "tie.logit_ulp",
    "sigma_1", "reference_token", "directions", "steps", "epsilon", "grid_flips", "grid_changed_fraction",
    "grid_tied_fraction", "grid_outside_pair_fraction", "grid_distinct_inputs", "nearest_flip_abs", "rays",
    "certified_rays", "censored_rays", "mode", "dtype", "device",
)  # fmt: skip
SPECTRUM = (
    "values", "sigma_1", "sigma_2", "sigma_last", "frobenius_norm", "stable_rank", "effective_rank", "max_residual",
    "orthogonality", "converged", "method", "dtype",
)  # fmt: skip
LOCAL = (
    "sigma_1", "chain_sigma_1", "chain_relative_difference", "chain_bound", "chain_agrees",
    "norm_product", "norm_product_over_sigma_1", "stages", "max_residual", "converged",
    *(f"{part}.{what}" for part in ("block", "mixer", "mlp") for what in ("norm_max", "norm_median", "argmax")),
    "embedding.norm_max", "final.norm_max", "modules.compared", "modules.pairs", "modules.pairs_of_equal_inputs",
    "modules.evaluated_inputs", "modules.requested_inputs", "method", "mode", "dtype",
)  # fmt: skip
REGIMES = (
    *(f"main.{name}" for name in (
        "direction", "sigma", "first_change", "first_change_low", "first_change_high", "last_silent_nominal",
        "first_changing_nominal", "absorbed", "noise_floor", "noise_floor_low", "noise_floor_high", "noise_slope",
        "crossover", "crossover_low", "crossover_high", "crossover_seen", "curvature", "signal_end", "signal_gain",
        "stable_steps", "chaotic_steps", "signal_steps", "nonlinear_steps", "has_signal_regime",
    )),
    "mode", "dtype",
)  # fmt: skip
PROMPT_SET = (
    "prompts", "kinds", *(f"sigma_1.{what}" for what in ("mean", "std", "median", "min", "max", "cv")),
    "relative_gain.median", "stable_rank.median", "noise_floor_l2.median", "leading.agreeing_steps",
    "leading.agree_from",
    "leading.agree_to", "leading.first_moving_step", "leading.still_steps", "quotients.rows",
    "quotients.evaluated_inputs",
    "quotients.token_changes", "averages.largest_n", "averages.bias_over_gain_smallest_step",
    "averages.bias_over_gain_largest_step", "max_residual", "converged",
    "gate.relative_error", "arithmetic", "mode", "dtype",
)  # fmt: skip
PRECISION = (
    "reference", "precisions", "same_token_everywhere",
    *(f"against.{precision}.{what}" for precision in ("float32", "float16", "bfloat16") for what in (
        "hidden_relative_l2", "hidden_ulps_median", "hidden_ulps_max", "logits_relative_l2", "same_token",
    "top_overlap",
        "top_same_order", "tied_leaders")),
    *(f"smallest_surviving.{fmt}" for fmt in ("float64", "float32", "float16", "bfloat16")),
    "width", "vector", "sigma", "dtype",
)  # fmt: skip
LIPSCHITZ = (
    "prompts", *(f"sigma_1.{what}" for what in ("mean", "median", "min", "max")), "noise_floor_l2.median",
    "leading.agreeing_steps", "leading.agree_from", "leading.agree_to", "leading.first_moving_step",
    "leading.still_steps",
    "rows", "evaluated_inputs", "token_changes", "router.layers", "router.rows_flipped", "router.smallest_step_flipped",
    "router.largest_step_unflipped", "max_residual", "converged", "arithmetic", "mode", "dtype",
)  # fmt: skip
REPORT = (
    "vector", "sigma", "epsilon", "moved_coordinates", "realised_l2", "realised_along", "off_direction_l2",
    "hidden_diff_l2", "logit_diff_l2", "smooth_prediction_l2", "noise_floor_l2", "quotient_nominal",
    "quotient_realised",
    "above_floor", "token_changed", "arithmetic", "mode", "dtype",
)  # fmt: skip
PERTURBATION = (
    "prompts", "rows", "token_changes",
    *(f"{scale}.{what}" for scale in ("lattice", "relative", "absolute") for what in (
        "rows", "token_changes", "smallest_changing_magnitude", "smallest_changing_relative_l2",
        "largest_harmless_relative_l2")),
    "gate.relative_error", "dtype",
)  # fmt: skip
COLUMNS: Mapping[str, Sequence[str]] = {
    "spectrum": SPECTRUM,
    "exp1": PROPAGATION,
    "exp2": PROMPT_SET,
    "exp3": PRECISION,
    "lipschitz": LIPSCHITZ,
    "lipschitz_report": REPORT,
    "perturbation": PERTURBATION,
    "exp5": LOCAL,
    "exp6": FLIPS,
    "exp11": ROTATIONS,
    "exp12": ANGLES,
    "exp13": VECTORS,
    "exp14": SMALL_STEPS,
    "exp15": DISTANCES,
    "regimes": REGIMES,
}


def _value(document: Mapping[str, Any], dotted: str, path: Path) -> Any:
    value: Any = document
    for part in dotted.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ArtifactError(f"{path} has no '{dotted}'; delete it and run snakemake again")
        value = value[part]
    return value


def gather(
    experiment: str,
    statistics: Sequence[Path],
    rows: Sequence[Mapping[str, str]],
    *,
    output: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write a summary table from statistics files.

    Args:
        experiment: Key of :data:`COLUMNS`.
        statistics: One JSON file for each row.
        rows: Names of each row (model, prompt, arithmetic, ...), in the order of the files.
        output: CSV file to write.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: a file lacks a value.
    """
    table = []
    for path, names in zip(statistics, rows, strict=True):
        document = read_json(path)
        values = {column.replace(".", "_"): _value(document, column, path) for column in COLUMNS[experiment]}
        table.append({**names, **values})
    _write(output, pd.DataFrame(table), provenance)


def stack(
    experiment: str,
    tables: Sequence[Path],
    rows: Sequence[Mapping[str, str]],
    *,
    output: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write a summary from tables that each hold several of its rows: one below the other, with the names before.

    Args:
        experiment: Key of :data:`COLUMNS`.
        tables: One CSV file for each entry of `rows`, with the columns of the experiment among its own.
        rows: Names (model, prompt, ...) of all rows of a file, in the order of the files.
        output: CSV file to write.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: a table lacks a column.
    """
    columns = list(COLUMNS[experiment])
    parts = []
    for path, names in zip(tables, rows, strict=True):
        frame = read_csv(path)
        missing = [column for column in columns if column not in frame]
        if missing:
            raise ArtifactError(f"{path} has no column '{missing[0]}'; delete it and run snakemake again")
        head = pd.DataFrame([names] * len(frame), index=frame.index)
        parts.append(pd.concat([head, frame[columns]], axis=1))
    _write(output, pd.concat(parts, ignore_index=True), provenance)


def _write(output: Path, frame: pd.DataFrame, provenance: Mapping[str, Any]) -> None:
    for name in frame.columns:  # a column that is None everywhere has no type of its own
        if frame[name].isna().all():
            frame[name] = frame[name].astype("float64")
    write_csv(output, frame, provenance=collect(seeds=None, platform={}, model={}, **provenance))
