"""Rule exp7_randomness: statistics of the maps against null models."""

from tremor import job
from tremor.experiments import randomness


def run(inputs, params, outputs):
    randomness.measure(
        inputs.planes,
        settings=params.settings,
        table=outputs.table,
        tests=outputs.tests,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
