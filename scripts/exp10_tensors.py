"""Rule exp10_tensors: the chains of two platforms, product by product."""

from tremor import job
from tremor.experiments import tensors


def run(inputs, params, outputs):
    tensors.compare(
        inputs.a,
        inputs.b,
        steps=outputs.steps,
        types=outputs.types,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
