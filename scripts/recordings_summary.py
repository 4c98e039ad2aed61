"""Rule recordings_summary: one row for each recorded question."""

from tremor import job
from tremor.experiments import recording_summary


def run(inputs, params, outputs):
    files = job.listed(inputs.recordings)
    recording_summary.tabulate(files, params.rows, output=outputs.table, provenance=job.provenance(inputs, params))


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
