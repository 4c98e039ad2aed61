"""Rules *_summary whose parts are tables themselves: their rows, one below the other."""

from tremor import job
from tremor.experiments import summaries


def run(inputs, params, outputs):
    files = job.listed(inputs.tables)
    summaries.stack(
        params.experiment, files, params.rows, output=outputs.table, provenance=job.provenance(inputs, params)
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
