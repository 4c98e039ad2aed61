"""Rule exp7_summary: one row for each map."""

from tremor import job
from tremor.experiments import randomness


def run(inputs, params, outputs):
    randomness.summarise(
        job.listed(inputs.tables), params.rows, output=outputs.table, provenance=job.provenance(inputs, params)
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
