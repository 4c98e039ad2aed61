"""Rule exp1: how a difference of inputs travels through the layers, and a walk."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import propagation  # imports torch, for which the session has set the platform

    propagation.measure(
        opened,
        params.prompt,
        numerics=params.wildcards.numerics,
        probe=params.probe,
        settings=params.settings,
        spectrum=inputs.spectrum,
        states=outputs.states,
        layers=outputs.layers,
        sweep=outputs.sweep,
        walk=outputs.walk,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
