"""Rule exp14: equal small steps along a singular vector."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import small_steps  # imports torch, for which the session has set the platform

    small_steps.measure(
        opened,
        params.prompt,
        arithmetic=params.wildcards.arithmetic,
        probe=params.probe,
        settings=params.settings,
        spectrum=inputs.spectrum,
        data=outputs.data,
        steps=outputs.steps,
        jumps=outputs.jumps,
        scaling=outputs.scaling,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
