"""Rule spectrum: Jacobian at the prompt and its singular vectors."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.wildcards.dtype)
    from tremor.experiments import spectrum  # imports torch, for which the session has set the platform

    spectrum.measure(
        opened,
        params.prompt,
        params.settings,
        data=outputs.data,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
