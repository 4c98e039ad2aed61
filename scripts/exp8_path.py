"""Rule exp8_path: projections on the two competing tokens, and the first stage whose bits differ."""

from tremor import job
from tremor.experiments import decision_path


def run(inputs, params, outputs):
    decision_path.trace(
        job.listed(inputs.a),
        job.listed(inputs.b),
        divergence=inputs.divergence,
        unembedding=inputs.unembedding,
        path=outputs.path,
        first=outputs.first,
        growth=outputs.growth,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
