"""Rule exp12: stability boundary in the plane of two singular vectors."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import boundary  # imports torch, for which the session has set the platform

    boundary.measure(
        "exp12",
        opened,
        params.prompt,
        arithmetic=params.wildcards.arithmetic,
        probe=params.probe,
        settings=params.settings,
        spectrum=inputs.spectrum,
        data=outputs.data,
        table=outputs.table,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
