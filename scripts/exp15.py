"""Rule exp15: check each stored boundary again and measure the distances there."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import distances  # imports torch, for which the session has set the platform

    distances.measure(
        opened,
        params.prompt,
        variant=params.wildcards.variant,
        probe=params.probe,
        settings=params.settings,
        boundary=inputs.boundary,
        spectrum=inputs.spectrum,
        table=outputs.table,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
