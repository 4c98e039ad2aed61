"""Rule lipschitz_report: one step along one singular vector, in words and with all vectors."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import lipschitz  # imports torch, for which the session has set the platform

    lipschitz.report(
        opened,
        params.prompt,
        probe=params.probe,
        settings=params.settings,
        spectrum=inputs.spectrum,
        **vars(outputs),
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
