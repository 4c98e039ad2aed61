"""Rules *_summary: one row for each statistics file."""

from tremor import job
from tremor.experiments import summaries


def run(inputs, params, outputs):
    files = job.listed(inputs.statistics)
    summaries.gather(
        params.experiment, files, params.rows, output=outputs.table, provenance=job.provenance(inputs, params)
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
