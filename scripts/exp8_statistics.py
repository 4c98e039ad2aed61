"""Rule exp8_statistics: the statistics of the parts, in one document."""

from tremor import job
from tremor.experiments import stage_statistics


def run(inputs, params, outputs):
    stage_statistics.merge(vars(inputs), output=outputs.statistics, provenance=job.provenance(inputs, params))


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
