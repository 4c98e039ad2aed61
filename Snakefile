# Tremor: a seismograph for large language models.
# The main result: snakemake --cores 8 --resources gpu=1 results/exp15/summary.csv
from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake.utils import min_version

min_version("9.25")


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/spectrum.smk"
include: "rules/boundary.smk"
include: "rules/local.smk"
include: "rules/regimes.smk"
include: "rules/noise_floors.smk"
include: "rules/ties.smk"
include: "rules/walks.smk"
include: "rules/quotients.smk"
include: "rules/precision.smk"
include: "rules/lipschitz.smk"
include: "rules/perturbation.smk"
include: "rules/matrices.smk"
include: "rules/documents.smk"
include: "rules/recordings.smk"
include: "rules/divergence.smk"
include: "rules/stages.smk"
include: "rules/sweeps.smk"
include: "rules/esa.smk"
include: "rules/esa_ablation.smk"
include: "rules/esa_faults.smk"
include: "rules/esa_models.smk"
include: "rules/delta.smk"
include: "rules/neurons.smk"
include: "rules/weights.smk"
include: "rules/cross.smk"
include: "rules/shards.smk"
include: "rules/shards_weights.smk"
include: "rules/report.smk"
include: "rules/targets.smk"


if MAIN:

    report: "workflow/report/workflow.rst"


if MAIN and workflow.is_main_process:
    logger.addHandler(numbers.WhenNothingIsLeft(workflow, NOTHING_TO_BE_DONE_MSG))


onsuccess:
    numbers.say(workflow)


rule all:
    """Every summary and figure of the selection."""
    default_target: MAIN
    input:
        graph.targets(),
