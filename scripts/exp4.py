"""Rule exp4: all parts of one model and pair in one document, which the summary takes its row from."""

from tremor import job
from tremor.experiments import divergence_summary


def run(inputs, params, outputs):
    divergence_summary.join(
        divergence=inputs.divergence,
        dimensions=inputs.dimensions,
        embeddings=inputs.embeddings,
        angles=job.listed(inputs.angles),
        output=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
