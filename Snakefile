# Tremor: a seismograph for large language models.
# The main result: snakemake --cores 8 --resources gpu=1 results/exp15/summary.csv
from snakemake.utils import min_version

min_version("9.25")


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/spectrum.smk"
include: "rules/boundary.smk"
include: "rules/local.smk"
include: "rules/regimes.smk"
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


rule all:
    default_target: True
    input:
        graph.targets(),
