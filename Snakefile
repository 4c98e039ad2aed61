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


rule all:
    default_target: True
    input:
        graph.targets(),
