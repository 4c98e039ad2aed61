"""Rule regimes: gain over the size of a step, in several number formats."""

from pathlib import Path

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import regimes  # imports torch, for which the session has set the platform

    regimes.measure(
        opened,
        params.prompt,
        directory=Path(params.directory),
        attention=params.attention,
        probe=params.probe,
        settings=params.settings,
        spectrum=inputs.spectrum,
        **vars(outputs),
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
