"""Rule exp8_kernel_comparison: what two unembedding kernels made of the same vectors."""

from tremor import job
from tremor.experiments import kernel_comparison


def run(inputs, params, outputs):
    kernel_comparison.compare(
        inputs.a,
        inputs.b,
        job.listed(inputs.recordings),
        divergence=inputs.divergence,
        table=outputs.table,
        dots=outputs.dots,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
