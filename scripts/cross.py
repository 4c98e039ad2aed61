"""Rule cross: spectrum, noise floor and boundary with critical weights changed."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import cross  # imports torch, for which the session has set the platform

    cross.measure(
        opened,
        params.prompt,
        probe=params.probe,
        spectrum_settings=params.spectrum,
        settings=params.settings,
        spectrum=inputs.spectrum,
        rankings=getattr(inputs, "rankings", None),
        supers=getattr(inputs, "supers", None),
        table=outputs.table,
        controls=outputs.controls,
        data=outputs.data,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
