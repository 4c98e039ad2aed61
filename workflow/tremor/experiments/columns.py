"""Columns of every summary table after the names of its row: a stable interface, documented in docs/.

A dot leads into a nested value of `statistics.json`; the column has an underscore there.
"""

from collections.abc import Mapping, Sequence

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
GAIN = (
    "layer", "n_layers", "relative_depth", "mixer",
    *(f"{what}_{source}_{target}" for source in ("last", "all") for target in ("logits", "centred_logits", "final")
      for what in ("spectral", "frobenius", "typical", "relative_worst", "relative_typical")),
    "gain_texts", "max_residual", "unconverged",
    *(f"sensitivity_{noise}_{what}" for noise in ("absolute", "relative_all", "relative_last")
      for what in ("mean", "std", "gain_mean", "step_mean")),
    "sensitivity_relative_last_over_derivative", "sensitivity_relative_all_over_derivative", "sensitivity_texts",
    "draws", "epsilon", "secant_max", "secant_mean", "secant_pairs", "secant_skipped", "state_norm_last",
    "output_variance", "output_variance_centred",
    *(f"erank_{level}_{centring}_{power}{ending}" for level in ("last", "token")
      for centring in ("centred", "uncentred") for power in ("sigma", "sigma2") for ending in ("", "_corrected")),
    "participation_ratio_last", "participation_ratio_token",
    "last_states", "token_states", "texts", "dtype",
)  # fmt: skip
RECORDINGS = (
    "number", "question", "kind", "prompt_tokens", "tokens", "stopped", "taps", "tap_rows", "state_bytes",
    "tied_steps", "most_tied", "margin_min", "margin_min_step", "margin_median", "leader_probability_min", "text",
    "decode", "dtype",
)  # fmt: skip
MATRICES = (
    "component", "matrices", "values", "zeros", "max_abs",
    *(f"{quantity}_{what}"
      for quantity in ("frobenius_norm", "spectral_norm", "nuclear_norm", "mean", "std", "mean_abs", "skewness",
                       "kurtosis")
      for what in ("mean", "std", "min", "max", "argmin_block", "argmax_block")),
    "stable_rank_mean", "effective_rank_mean",
)  # fmt: skip
DOCUMENT = (
    "pages", "characters", "words", "scored_words", "scored_tokens", "tokens_per_word", "words_sharing_a_token",
    "nll_per_token", "perplexity_per_token", "nll_per_word", "bits_per_character", "bits_per_byte",
    "token_accuracy", "word_accuracy",
    *(f"first_token.{what}" for what in (
        "accuracy", "probability_mean", "probability_median", "probability_min", "probability_max", "rank_median")),
    *(f"{cosine}_mean" for cosine in (
        "cosine_state_first", "cosine_state_second", "cosine_state_target", "cosine_first_target",
        "cosine_second_target")),
    "tied_tokens", "least_context_after_first_window", "windows", "window", "stride", "bos", "dtype",
)  # fmt: skip
STAGES = (
    *(f"divergence.{what}" for what in (
        "questions", "token", "length", "none", "tied", "runner_up_wins", "first_index", "stages", "duplicates",
        "identical_rows_percent", "last_stage", "last_relative_l2_median", "last_ulp_median")),
    *(f"path.{what}" for what in (
        "questions_with_differing_bits", "decision_stage", "decision_ulp_max", "first_row_min", "first_stage",
        "first_ulp_max", "questions_with_sign_flips", "growth_median")),
    *(f"values.{what}" for what in ("values", "values_changed", "values_changed_percent", "ulp_max", "max_abs")),
    *(f"angles.{what}" for what in (
        "norm", "ranking_changed", "ranking_changed_gain_free", "nearest_is_largest_logit_percent",
        "change_degrees_mean", "change_gain_free_degrees_mean")),
    *(f"kernels.{what}" for what in (
        "rows", "equal_rows", "changed_logits_percent", "ulp_max", "other_argmax", "reproduces_recording",
        "equal_dots_percent", "dots_favour_another", "vectors_exact")),
)  # fmt: skip
SWEEPS = (
    "subject", "norm", "parameter", "width_in", "width_out", "input_l2", "input_mean", "input_std", "input_min",
    "input_max", "spectral_norm", "weight_spectral_norm", "converged", "max_residual", "noise_floor_l2",
    *(f"{what}_{direction}" for direction in ("random", "top") for what in ("gain",)),
    *(f"{direction}_{what}" for direction in ("random", "top") for what in (
        "steps", "steps_moved", "smallest_moving_epsilon", "best_epsilon", "best_magnification")),
    "arithmetic", "dtype",
)  # fmt: skip
CHAINS = (
    "dtype", "steps", "identical", "first_differing_step", "differing_steps", "changed_first_percent",
    "changed_last_percent", "ulp_max_last", "ulp_median_last", "relative_l2_first", "relative_l2_last",
    "error_last_a", "error_last_b", "repeats_agree", "dim", "repeats",
)  # fmt: skip
CHOICE = ("model", "layer_name", "layer", "tap", "selector")
PERCENTAGE = (
    *CHOICE, "relation", "wording", "relation_name", "units", "sentences", "tokens", "baseline_nll", "perturbed_nll",
    "delta_nll", "delta_nll_low", "delta_nll_high", "baseline_ppl", "perturbed_ppl", "absolute_change",
    "percentage_change", "percentage_low", "percentage_high", "baseline_nll_std", "perturbed_nll_std", "delta_nll_std",
    "baseline_std", "perturbed_std", *(f"control_{what}" for what in ("mean", "std", "percentile", "z", "p")),
    "other_baseline_ppl", "other_perturbed_ppl", "other_delta_nll", "other_percentage_change",
    "other_relations_delta_nll", "selectivity", "selectivity_nll", "selectivity_control_mean", "selectivity_control_p",
    "answer_logprob", "answer_logprob_change", "answer_logprob_change_low", "answer_logprob_change_high",
    "answer_logprob_change_std", "answer_probability", "answer_probability_after",
    *(f"answer_control_{what}" for what in ("mean", "std", "percentile", "z", "p")),
    "answer_rank_median", "answer_rank_median_after", "recalled", "recalled_after",
    *(f"first_over_this_{what}" for what in ("absolute_change", "percentage_change", "delta_nll", "baseline_ppl")),
)  # fmt: skip
FACTUAL = (
    *CHOICE, "erased", "wording", "relation_name", "erased_before_ppl", "erased_after_ppl", "erased_percentage_change",
    "erased_delta_nll", "erased_answer_logprob_change", "others_delta_nll_mean", "others_delta_nll_max",
    "others_answer_logprob_change_mean", "other_text_before_ppl", "other_text_after_ppl",
    "other_text_percentage_change", "other_text_delta_nll", "selectivity", "specificity_nll", "specificity_answer",
    "own_rank", "relations",
)  # fmt: skip
TRACING = (
    "model", "kind", "layer", "relative_depth", "role", "facts", "indirect_effect_mean", "indirect_effect_sem",
    "total_effect_mean", "recovered",
)  # fmt: skip
PARTING = (
    "questions", "diverged", "diverged_by_token", "diverged_by_length",
    *(f"divergence_index.{what}" for what in ("mean", "std", "min", "median", "max")),
    "questions_differing_in_bits", *(f"first_row_differing.{what}" for what in ("min", "median", "max")),
    "rows_common", "rows_differing", "tied_rows", "ties_at_divergence",
    *(f"margin_ulps_at_divergence.{what}" for what in ("min", "median", "max")),
    *(f"decisive.{name}.median" for name in (
        "n_changed_bits", "ulp_max", "relative_l2", "cosine_distance", "logit_max_abs", "kl_at_least")),
    *(f"common.{name}.{what}" for name in ("relative_l2", "cosine_distance", "ulp_max", "logit_max_abs")
      for what in ("median", "max")),
    "embeddings.questions", "embeddings.equal",
    *(f"angles.{side}.{what}" for side in ("a", "b") for what in ("first.mean", "first.std", "largest_logit_error")),
    "dtype_a", "dtype_b",
)  # fmt: skip
RANK_ANGLES = (
    "rank", "recomputed", "count", "mean", "std", "min", "median", "max", "q25", "q75", "q95", "q99", "cosine_mean",
    "vector_norm_mean",
)  # fmt: skip
SUPER_WEIGHTS = (
    "method", "weights", "population", "seconds", "quality",
    *(f"first_{what}" for what in ("tensor", "block", "component", "index", "weight", "score", "delta_nll")),
    "status", "delta_nll", "delta_nll_low", "delta_nll_high", "kl", "flip_rate",
    "control_mean", "control_std", "control_highest", "z", "p", "nll_clean", "dtype",
)  # fmt: skip
METHOD_PAIRS = (
    "first", "second", "k", "population", "common", "jaccard", "jaccard_chance", "overlap_coefficient", "p", "rbo",
    "spearman", "kendall", "correlated", "seconds_first", "seconds_second",
)  # fmt: skip
CRITICAL_WEIGHTS = (
    "metric", "selection", "topk", "mask_ratio", "weights_requested", "weights_changed", "weights_no_op", "tensors",
    "status", "baseline_nll", "perturbed_nll", "delta_nll", "delta_nll_low", "delta_nll_high", "baseline_ppl",
    "perturbed_ppl", "ppl_increase", "ppl_ratio", "kl", "flip_rate", "controls", "control_mean", "control_std",
    "control_max", "z", "p", "p_t", "p_holm", "eval_texts_count", "eval_tokens",
)  # fmt: skip
CROSS = (
    "source", "score", "topk", "operation", "weights_changed", "inside", "tensors", "status", "nll_status",
    "sigma_1", "sigma_1_change", "sigma_1_control_mean", "sigma_1_control_std", "sigma_1_z", "sigma_1_p",
    "floor", "floor_change", "floor_control_mean", "floor_control_std", "floor_z", "floor_p",
    "boundary", "boundary_change", "boundary_control_mean", "boundary_control_std", "boundary_z", "boundary_p",
    "nll", "delta_nll", "delta_nll_control_mean", "delta_nll_control_std", "delta_nll_z", "delta_nll_p",
    "stable_rank", "stable_rank_change", "v1_cosine", "state_shift", "margin", "margin_change",
    "token", "token_text", "token_changed", "rays", "rays_changed", "certified_rays", "censored_rays",
    "controls", "deep_controls", "dtype", "mode",
)  # fmt: skip
EVALUATION = (
    "texts", "domains", "tokens", "bytes", "status", "nll", "nll_low", "nll_high", "perplexity", "bits_per_byte",
    "accuracy", "confidence", "ece", "mce", "brier", "entropy", "windows", "window", "overlap", "tokens_per_second",
    "generated_tokens", "generated_tokens_per_second", "repeated_4grams", "ended", "tasks", "dtype",
)  # fmt: skip
TRAINING = (
    "steps", "rows", "training_tokens", "epochs", "first_loss", "final_loss",
    *(f"{text}_{what}" for text in ("training_text", "heldout") for what in (
        "nll_before", "nll_after", "delta_nll", "delta_nll_low", "delta_nll_high")),
    "parameters", "dtype",
)  # fmt: skip
ATTRIBUTION = (
    "judge", "method", "experimental", "components", "spearman", "kendall", "null_low", "null_high", "p", "k", "common",
    "overlap", "overlap_chance", "overlap_p", "finds_first", "above_chance", "consistency", "position_bias",
)  # fmt: skip
INTEGRATED = ("model", "analysis", "quantity", "value", "unit", "detail")
ROBUSTNESS = (
    "kind", "level", "scale", "draws", "failed", "weights", "population", "noise_rms",
    *(f"{name}{end}" for name in ("delta_nll", "kl", "flip_rate") for end in ("", "_low", "_high", "_draw_std")),
    "nll_clean", "dtype",
)  # fmt: skip
ADVERSARIAL = (
    "attack", "size", "unit", "scale", "prompts", "nll_clean",
    "changed_rate", "changed_rate_low", "changed_rate_high", "random_changed_rate",
    "nll_rate", "nll_rate_low", "nll_rate_high", "random_nll_rate",
    "delta_nll", "delta_nll_low", "delta_nll_high", "random_delta_nll", "excess", "excess_low", "excess_high",
    "linf", "relative_l2", "edits", "as_text_rate", "dtype",
)  # fmt: skip
BIT_LEVEL = (
    "study", "format", "component", "setting", "weights", "cases", "silent", "changed", "nan", "inf", "answers",
    "delta_nll", "delta_nll_low", "delta_nll_high", "delta_nll_max", "kl", "flip_rate", "nll_clean", "dtype",
)  # fmt: skip
OUTCOME = ("status", "delta_nll", "delta_nll_low", "delta_nll_high", "kl", "flip_rate")
ABLATIONS = ("block", "component", "level", "mode", "weights", "rank", *OUTCOME, "nll_clean", "dtype")
DOSES = (
    "score", "operation", "selection", "fraction", "weights", "population", *OUTCOME,
    "controls", "control_mean", "control_std", "control_lowest", "control_highest", "z", "p", "nll_clean", "dtype",
)  # fmt: skip
REPLACEMENTS = (
    "selection", "score", "which", "fill", "weights", "population", *OUTCOME,
    "controls", "control_mean", "control_std", "control_highest", "z", "p",
    "greedy_kept", "sampled_kept", "other_seed_kept", "nll_clean", "dtype",
)  # fmt: skip
PRUNINGS = (
    "score", "group", "sparsity", "sparsity_found", "population", "pruned", "changed", *OUTCOME, "ppl_ratio",
    "checkpoint", "nll_clean", "dtype",
)  # fmt: skip
FLOORS = (
    "dtype", "mode", "attention", "batch_size", "prompts", "state_median", "state_max", "state_median_roundoffs",
    "logits_median", "logits_max", "logit_error_median", "logit_error_max", "weights_median", "weights_max",
    "tokens_changed", "controls_exact", "logits_exact", "controls_worst_ulps", "bits", "gate_relative_error",
)  # fmt: skip
COLUMNS: Mapping[str, Sequence[str]] = {
    "cross": CROSS,
    "critical_weights": CRITICAL_WEIGHTS,
    "exp8": STAGES,
    "exp9": MATRICES,
    "exp10": SWEEPS,
    "exp10/tensors": CHAINS,
    "pdf": DOCUMENT,
    "spectrum": SPECTRUM,
    "exp1": PROPAGATION,
    "exp2": PROMPT_SET,
    "exp3": PRECISION,
    "lipschitz": LIPSCHITZ,
    "lipschitz_report": REPORT,
    "perturbation": PERTURBATION,
    "exp4": PARTING,
    "exp4/angles": RANK_ANGLES,
    "exp5": LOCAL,
    "exp6": FLIPS,
    "exp11": ROTATIONS,
    "exp12": ANGLES,
    "exp13": VECTORS,
    "exp14": SMALL_STEPS,
    "exp15": DISTANCES,
    "regimes": REGIMES,
    "noise_floors": FLOORS,
    "recordings": RECORDINGS,
    "esa/super-weights": SUPER_WEIGHTS,
    "esa/compare-sensitivity": METHOD_PAIRS,
    "esa/sensitivity": ABLATIONS,
    "esa/targeted-perturbation": DOSES,
    "esa/selective-weight-pruning": REPLACEMENTS,
    "esa/pruning": PRUNINGS,
    "esa/robustness": ROBUSTNESS,
    "esa/adversarial": ADVERSARIAL,
    "esa/bit-level": BIT_LEVEL,
    "esa/evaluate": EVALUATION,
    "esa/train": TRAINING,
    "esa/attribution": ATTRIBUTION,
    "esa/integrated": INTEGRATED,
    "delta/jacobian": GAIN,
    "delta/percentage": PERCENTAGE,
    "delta/factual": FACTUAL,
    "delta/tracing": TRACING,
}
