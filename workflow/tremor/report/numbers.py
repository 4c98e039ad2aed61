"""The three numbers that matter of every summary: what a run says of its results at its end."""

import csv
import logging
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tremor.report.contents import about

FOLDS: Mapping[str, Callable[[list[float]], float]] = {
    "median": statistics.median, "max": max, "min": min, "sum": sum, "mean": statistics.fmean,
}  # fmt: skip
NUMBERS: Mapping[str, Sequence[tuple[str, str, str]]] = {  # column, how its rows become one number, what it says
    "spectrum": (("sigma_1", "median", "largest gain of a small change"),
                 ("sigma_2", "median", "second largest"), ("stable_rank", "median", "directions that count")),
    "exp1": (("propagation_gain_first", "max", "gain of the smallest jump that moves the input"),
             ("sigma_1", "median", "gain of the derivative"),
             ("walk_final_changes", "median", "steps of the walk that change the answer")),
    "exp2": (("sigma_1_median", "median", "local gain of a prompt"), ("sigma_1_max", "max", "largest of any prompt"),
             ("noise_floor_l2_median", "median", "rounding noise of the answer")),
    "exp3": (("against_float32_hidden_relative_l2", "median", "distance of the float32 state from the reference"),
             ("against_bfloat16_hidden_relative_l2", "median", "of the bfloat16 state"),
             ("sigma", "median", "singular value of the direction")),
    "exp4": (("questions", "sum", "questions answered twice"), ("diverged", "sum", "texts that part"),
             ("divergence_index_median", "median", "token at which they part")),
    "exp4/angles": (("median", "median", "angle of state and unembedding vector, degrees"),
                    ("min", "min", "smallest"), ("max", "max", "largest")),
    "exp5": (("sigma_1", "median", "gain of the whole model"), ("block_norm_max", "max", "of the strongest block"),
             ("norm_product_over_sigma_1", "median", "product of the blocks' norms over the model's gain")),
    "exp6": (("tie_distance_over_x_l2", "median", "way to the tie, over the input's length"),
             ("nearest_flip_abs", "min", "smallest step from it that flips the choice"),
             ("grid_flips", "median", "changes of choice along the directions")),
    "exp7": (("tied_fraction", "median", "share of cells in which tokens tie"),
             ("distinct_inputs", "sum", "inputs run"),
             ("median_off_plane_over_radius", "max", "distance of inputs from their plane, over the radius")),
    "exp8": (("divergence_identical_rows_percent", "median", "states of equal bits, percent"),
             ("path_growth_median", "median", "growth of a difference through the model"),
             ("divergence_token", "sum", "texts that part by a token")),
    "exp9": (("max_abs", "max", "largest weight"), ("spectral_norm_max", "max", "largest spectral norm"),
             ("kurtosis_max", "max", "heaviest tail (excess kurtosis)")),
    "exp10": (("spectral_norm", "median", "norm of the map"),
              ("random_smallest_moving_epsilon", "median", "smallest step that moves its input"),
              ("random_best_magnification", "median", "magnification found with steps")),
    "exp10/tensors": (("differing_steps", "max", "products that differ"), ("steps", "max", "of so many"),
                      ("relative_l2_last", "max", "distance behind the last")),
    "exp11": (("largest_jump_embedding_by_kind_plane_mean", "median", "coordinates moved by turned directions"),
              ("largest_jump_embedding_by_kind_random_mean", "median", "by random ones"),
              ("largest_jump_embedding_kruskal_p", "min", "smallest p of a difference between kinds")),
    "exp12": (("max_s_median", "median", "step that still changes nothing"),
              ("max_s_min", "min", "shortest of any angle"),
              ("median_max_s_over_first_breakpoint", "median", "over the step at which the input moves")),
    "exp13": (("singular_max_s_median", "median", "step that still changes nothing, along singular vectors"),
              ("random_max_s_median", "median", "along random directions"),
              ("spearman_max_s_sigma", "median", "rank correlation with sigma")),
    "exp14": (("finest_jump_size_median", "median", "jump of the answer"),
              ("noise_floor_l2", "median", "rounding noise"), ("finest_gain_rms", "median", "gain at the finest step")),
    "exp15": (("embedding_l2_median", "median", "step of the input at the boundary"),
              ("hidden_l2_median", "median", "jump of the answer"), ("noise_floor_l2", "median", "rounding noise")),
    "regimes": (("main_first_change", "median", "smallest step that is answered"),
                ("main_crossover", "median", "step from which the derivative answers"),
                ("main_noise_floor", "median", "rounding noise")),
    "noise_floors": (("state_median", "median", "error of the state, relative"), ("state_max", "max", "largest"),
                     ("tokens_changed", "sum", "tokens that rounding changes")),
    "lipschitz": (("sigma_1_median", "median", "local gain"), ("leading_agree_from", "median", "quotients agree from"),
                  ("leading_agree_to", "median", "to this step")),
    "perturbation": (("token_changes", "sum", "noises that change the token"), ("rows", "sum", "of so many"),
                     ("relative_smallest_changing_relative_l2", "min", "smallest of them, relative")),
    "recordings": (("tokens", "sum", "tokens recorded"), ("tied_steps", "sum", "decided by a tie"),
                   ("margin_min", "min", "smallest margin of two logits")),
    "pdf": (("perplexity_per_token", "median", "perplexity of a token"), ("word_accuracy", "median", "words foreseen"),
            ("bits_per_byte", "median", "bits per byte")),
    "critical_weights": (("delta_nll", "max", "largest cost, nats per token"),
                         ("control_max", "max", "largest of random weights"),
                         ("ppl_ratio", "max", "perplexity, times")),
    "cross": (("sigma_1_change", "max", "largest rise of sigma_1"), ("boundary_change", "max", "of the boundary"),
              ("delta_nll", "max", "of the likelihood, nats per token")),
    "esa/super-weights": (("delta_nll", "max", "largest cost, nats per token"),
                          ("control_highest", "max", "largest of random weights"),
                          ("flip_rate", "max", "predictions changed")),
    "esa/compare-sensitivity": (("jaccard", "median", "common share of the best weights"),
                                ("jaccard_chance", "median", "by chance"), ("spearman", "median", "rank correlation")),
    "esa/sensitivity": (("delta_nll", "max", "cost of the part that matters most, nats per token"),
                        ("delta_nll", "median", "of a part"), ("flip_rate", "max", "predictions changed")),
    "esa/targeted-perturbation": (("delta_nll", "max", "largest cost, nats per token"),
                                  ("control_highest", "max", "largest of random weights"),
                                  ("flip_rate", "max", "predictions changed")),
    "esa/selective-weight-pruning": (("delta_nll", "max", "largest cost, nats per token"),
                                     ("control_highest", "max", "largest of random weights"),
                                     ("greedy_kept", "min", "least text kept")),
    "esa/pruning": (("sparsity_found", "max", "sparsest model"),
                    ("ppl_ratio", "min", "least rise of perplexity, times"),
                    ("ppl_ratio", "median", "of a pruning")),
    "esa/robustness": (("delta_nll", "max", "largest cost, nats per token"), ("delta_nll", "median", "of a level"),
                       ("flip_rate", "max", "predictions changed")),
    "esa/adversarial": (("changed_rate", "max", "answers changed by the best attack"),
                        ("random_changed_rate", "max", "by random changes"), ("delta_nll", "max", "rise of the loss")),
    "esa/bit-level": (("delta_nll_max", "max", "largest cost, nats per token"), ("nan", "sum", "flips that give NaN"),
                      ("silent", "sum", "flips that change nothing")),
    "esa/evaluate": (("perplexity", "median", "perplexity"), ("ece", "median", "expected calibration error"),
                     ("bits_per_byte", "median", "bits per byte")),
    "esa/train": (("training_text_delta_nll", "median", "change on the text trained on, nats per token"),
                  ("heldout_delta_nll", "median", "on other text"), ("final_loss", "median", "loss at the end")),
    "esa/attribution": (("spearman", "max", "best rank correlation with measured cost"),
                        ("null_high", "max", "what chance gives"), ("p", "min", "smallest p")),
    "delta/jacobian": (("relative_worst_last_logits", "median", "relative gain of a layer"),
                       ("relative_worst_last_logits", "max", "of the most sensitive"),
                       ("spectral_last_logits", "median", "gain of a layer")),
    "delta/percentage": (("delta_nll", "max", "largest cost of a relation, nats per token"),
                         ("control_mean", "median", "mean of random units"),
                         ("control_percentile", "median", "percentile among random units")),
    "delta/factual": (("erased_delta_nll", "median", "cost of a relation's own facts, nats per token"),
                      ("others_delta_nll_mean", "median", "of the others'"), ("own_rank", "median", "rank of the own")),
    "delta/tracing": (("indirect_effect_mean", "max", "best single state, nats"),
                      ("total_effect_mean", "max", "whole effect, nats"), ("recovered", "max", "share brought back")),
}  # fmt: skip
MANY = 8  # summaries of which each still gets lines of its own


def read(path: Path, experiment: str) -> list[tuple[str, str, str]]:
    """The numbers of one summary.

    Args:
        path: The CSV file.
        experiment: Its name.

    Returns:
        Number, ``fold of column``, and what it says. A column without a number is told as ``-``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no table with these columns.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for column, fold, says in NUMBERS.get(experiment, ()):
        if rows and column not in rows[0]:
            raise ValueError(f"no column {column}")
        values = [value for row in rows if row[column] and math.isfinite(value := float(row[column]))]
        number = f"{FOLDS[fold](values):.4g}" if values else "-"
        found.append((number, f"{fold} of {column}", says))
    return found


def lines(paths: Sequence[Path], results: Path = Path("results")) -> list[str]:
    """What to say of some summaries; one that cannot be read is named, and nothing is raised.

    Args:
        paths: ``results/<experiment>/summary.csv``.
        results: The folder that the experiments' names are relative to.
    """
    said = ["Results:"] if paths else []
    for path in paths:
        experiment = path.relative_to(results).parent.as_posix()
        try:
            found = read(path, experiment)
        except (OSError, ValueError, csv.Error) as error:
            said.append(f"  {path} (cannot be read: {error})")
            continue
        if len(paths) > MANY:
            said.append("  ".join((f"  {path}", *(f"{says}: {number}" for number, _, says in found))))
            continue
        said.append(f"  {path}  (docs/{about(experiment).page or experiment}.md)")
        said += [f"    {number:>10}  {says} ({column})" for number, column, says in found]
    return said


def asked(workflow: Any) -> list[Path]:
    """Summaries among the files of a run's jobs, each once, in order of their names."""
    files = {str(path) for job in workflow.dag.jobs for path in job.output}
    return [Path(path) for path in sorted(files) if path.startswith("results/") and path.endswith("/summary.csv")]


def say(workflow: Any) -> None:
    """Print the numbers of a finished run to stderr, unless it is to be quiet or was none."""
    quiet = {each.name for each in workflow.output_settings.quiet or ()}
    if "ALL" in quiet or workflow.dryrun:
        return
    said = lines([path for path in asked(workflow) if path.is_file()])
    if said:
        print("\n".join(said), file=sys.stderr)


class WhenNothingIsLeft(logging.Handler):
    """Says the same where everything was there already: Snakemake calls no hook then."""

    def __init__(self, workflow: Any, message: str) -> None:
        super().__init__()
        self._workflow, self._message = workflow, message

    def emit(self, record: logging.LogRecord) -> None:
        """Look for Snakemake's word that there is nothing to do."""
        if record.getMessage() == self._message:
            say(self._workflow)
