"""Rule exp8_angles: what the final norm does to the angles with the likeliest tokens."""

from tremor import job
from tremor.experiments import norm_effect


def run(inputs, params, outputs):
    norm_effect.measure(
        job.listed(inputs.a),
        job.listed(inputs.b),
        divergence=inputs.divergence,
        unembedding=inputs.unembedding,
        top_k=params.settings["top_k"],
        table=outputs.table,
        ranking=outputs.ranking,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
