"""Rule exp5: local Jacobians, their chain, and the modules of a layer."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import local_jacobians  # imports torch, for which the session has set the platform

    local_jacobians.measure(
        opened,
        params.prompt,
        probe=params.probe,
        settings=params.settings,
        spectrum=inputs.spectrum,
        data=outputs.data,
        stages=outputs.stages,
        modules=outputs.modules,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
