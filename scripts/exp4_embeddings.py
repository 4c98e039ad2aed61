"""Rule exp4_embeddings: what one platform's model had read when the runs parted (part 5)."""

from tremor import job
from tremor.experiments import embeddings


def run(inputs, params, outputs):
    embeddings.extract(
        job.listed(inputs.a),
        job.listed(inputs.b),
        inputs.document,
        side=params.wildcards.side,
        output=outputs.data,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
