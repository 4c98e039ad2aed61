"""The cost table: for every rule, what one of its jobs does, from the configuration and the model's numbers.

Every rule of ``rules/*.smk`` has an entry, which a test checks. An entry that is a guess rather than a count says so
(``generic``), and the estimate tells how many of its jobs are such.
"""

import re

from tremor.errors import TremorError
from tremor.estimate.answers import (
    boundary,
    distances,
    document,
    exp2,
    flips,
    floors,
    layer_walks,
    lipschitz,
    local_jacobians,
    maps,
    noise_everywhere,
    randomness,
    regimes,
    rotations,
    shard,
    small_steps,
    spectrum,
    states,
    tie,
    zoomed,
)
from tremor.estimate.captures import (
    chain,
    compared,
    components,
    kernels,
    matrices,
    recording,
    sweeps,
    training,
    unembedding,
)
from tremor.estimate.changes import (
    ablations,
    choices,
    compare_sensitivity,
    critical_rankings,
    critical_stability,
    critical_weights,
    cross,
    esa_adversarial,
    esa_attribution,
    esa_bits,
    esa_evaluate,
    esa_pruning,
    esa_robustness,
    esa_selective,
    esa_sensitivity,
    esa_targeted,
    esa_train,
    layer_gain,
    super_weight_scores,
    super_weights,
    tracing,
    tuned_super_weights,
)
from tremor.estimate.situation import Entry, Situation
from tremor.estimate.work import Start, Work


def figures(s: Situation) -> Work:
    """One file after another; heat maps take longer than lines, which the average covers."""
    return Work("figures", figures=len(s.job.outputs), disk=80e3 * len(s.job.outputs))


def summary(s: Situation) -> Work:
    """Tables of one row a file."""
    return Work("arrays", plain=0.01 * len(s.job.inputs), disk=5e3)


def manifest(s: Situation) -> Work:
    """Digests of all files."""
    return Work("none", plain=s.shape.weights("float32") / 1e9, disk=3e3)


def fetch(s: Situation) -> Work:
    """The time is the network's, which nobody knows before."""
    return Work("none", plain=5.0, disk=s.shape.weights("bfloat16"), generic=True)


def arrays(seconds: float) -> Entry:
    """A job of plain statistics that takes so many seconds with the defaults."""
    return lambda s: Work("arrays", plain=seconds, disk=100e3)


def generic(start: Start, seconds: float = 2.0) -> Entry:
    """A rule that nobody has counted yet: its start and some seconds. The estimate says so."""
    return lambda s: Work(start, plain=seconds, disk=100e3, generic=True)


COSTS: dict[str, Entry] = {
    "embedded_model": training, "hub_model": fetch, "manifest": manifest,
    "spectrum_measure": spectrum, "spectrum_figure": figures, "spectrum_summary": summary,
    "exp12_measure": lambda s: boundary(s, "exp12"), "exp13_measure": lambda s: boundary(s, "exp13"),
    "exp15_measure": distances, "boundary_shard": shard, "boundary_gather": arrays(0.5),
    "exp2_shard": exp2, "exp2_gather": arrays(0.5), "exp7_shard": maps, "exp7_gather": arrays(0.5),
    "exp7_zoom_shard": zoomed, "exp7_zoom_gather": arrays(0.3),
    "critical_rankings_shard": critical_rankings, "critical_rankings_gather": arrays(1.0),
    "critical_weights_shard": critical_weights, "critical_weights_gather": arrays(1.0),
    "esa_super_weights_shard": super_weight_scores,
    "esa_super_weights_gather": lambda s: super_weights(s, scored=True),
    "esa_compare_sensitivity_shard": compare_sensitivity, "esa_compare_sensitivity_gather": arrays(2.0),
    "esa_robustness_shard": esa_robustness, "esa_robustness_gather": arrays(0.5),
    "esa_targeted_perturbation_shard": esa_targeted, "esa_targeted_perturbation_gather": arrays(0.5),
    "exp1_measure": layer_walks, "exp11_measure": rotations, "exp14_measure": small_steps, "regimes_measure": regimes,
    "exp2_measure": exp2, "lipschitz_measure": lipschitz, "lipschitz_report": spectrum, "lipschitz_reports": summary,
    "exp3_states": states, "exp3_measure": arrays(0.3), "exp5_measure": local_jacobians,
    "exp6_tie": tie, "exp6_spectrum": spectrum, "exp6_flips": flips,
    "exp7_measure": maps, "exp7_zoom": zoomed, "exp7_randomness": randomness,
    "noise_floors_measure": floors, "noise_floors_table": summary,
    "perturbation_measure": noise_everywhere, "pdf_measure": document,
    "record": recording, "recordings_summary": compared(1.5), "unembedding": unembedding,
    "exp4_measure": arrays(0.0), "exp4_divergence": compared(0.3), "exp4_dimensions": compared(1.0),
    "exp4_drift": compared(1.2),
    "exp4_embeddings": compared(0.1), "exp4_embedding_comparison": compared(0.6), "exp4_logits": compared(0.8),
    "exp4_angles_measure": compared(3.0), "exp4_angles_summary": summary,
    "exp8_measure": compared(2.3), "exp8_angles": compared(0.6), "exp8_path": compared(2.2),
    "exp8_values": compared(2.0), "exp8_kernels": kernels, "exp8_kernel_comparison": compared(0.8),
    "exp8_statistics": arrays(0.0), "exp9_components": components, "exp9_measure": matrices,
    "exp10_chain": chain, "exp10_tensors_measure": arrays(0.3), "exp10_measure": sweeps,
    "delta_jacobian_measure": layer_gain, "delta_jacobian_comparison": arrays(0.2),
    "delta_neurons": choices, "delta_ablation": ablations, "delta_percentage": arrays(1.5),
    "delta_factual": arrays(1.3), "delta_tracing_measure": tracing,
    "critical_rankings": critical_rankings, "critical_weights_measure": critical_weights,
    "critical_stability": critical_stability, "critical_overlap": arrays(6.5),
    "esa_super_weights_measure": super_weights, "esa_compare_sensitivity_measure": compare_sensitivity,
    "esa_sensitivity_measure": esa_sensitivity, "esa_targeted_perturbation_measure": esa_targeted,
    "esa_selective_weight_pruning_measure": esa_selective, "esa_pruning_measure": esa_pruning,
    "esa_robustness_measure": esa_robustness, "esa_adversarial_measure": esa_adversarial,
    "esa_bit_level_measure": esa_bits, "esa_evaluate_measure": esa_evaluate,
    "esa_train_measure": esa_train, "esa_attribution_measure": esa_attribution,
    "esa_attribution_components": components, "esa_tuned_super_weights": tuned_super_weights,
    "esa_integrated": arrays(0.5), "cross_measure": cross,
    "index": generic("arrays", 5.0), "report": generic("arrays", 10.0),
}  # fmt: skip

_RECORD_SHARD = re.compile(r"record_\d+_of_\d+")
_KINDS = {"_figures": figures, "_summary": summary}  # rules of which each family has one, told by their names


def entry(rule: str) -> Entry:
    """The entry of a rule.

    Raises:
        TremorError: the table has none; a new rule must be given one.
    """
    rule = _RECORD_SHARD.sub("record", rule)
    if rule in COSTS:
        return COSTS[rule]
    for ending, found in _KINDS.items():
        if rule.endswith(ending):
            return found
    raise TremorError(f"rule '{rule}' has no entry in tremor/estimate/costs.py; add one, such as generic('model')")
