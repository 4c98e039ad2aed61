"""Rule exp7: maps of the gap over planes through a tie."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import planes  # imports torch, for which the session has set the platform

    planes.measure_planes(
        opened,
        params.prompt,
        arithmetic=params.wildcards.arithmetic,
        probe=params.probe,
        settings=params.settings,
        tie=inputs.tie,
        spectrum=inputs.spectrum,
        data=outputs.data,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
