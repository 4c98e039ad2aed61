"""Rule perturbation: noise at all positions of every selected prompt, in one precision."""

from pathlib import Path

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    precision = params.wildcards.precision
    opened = session.open_session(
        manifest=inputs.manifest,
        directory=Path(params.directory),
        dtype=precision.removeprefix("true_"),
        attention=params.attention,
        probe=params.probe,
    )
    from tremor.experiments import perturbation  # imports torch, for which the session has set the platform

    perturbation.measure(
        opened,
        params.prompts,
        precision=precision,
        settings=params.settings,
        **vars(outputs),
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
