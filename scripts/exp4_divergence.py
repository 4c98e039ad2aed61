"""Rule exp4_divergence: where the runs of two platforms part (part 2)."""

from tremor import job
from tremor.experiments import divergence


def run(inputs, params, outputs):
    divergence.measure(
        job.listed(inputs.a),
        job.listed(inputs.b),
        pair=params.pair,
        table=outputs.table,
        document=outputs.document,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
