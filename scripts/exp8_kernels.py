"""Rule exp8_kernels: one platform's unembedding kernels on the vectors of the pair's first platform."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_platform_job(inputs, params)
    from tremor.experiments import kernels  # imports torch, for which the session has set the platform

    kernels.measure(
        opened,
        job.listed(inputs.recordings),
        divergence=inputs.divergence,
        data=outputs.data,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
