"""Rule noise_floors_measure: distances from true float64 on one platform, in every type and mode."""

from pathlib import Path

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_platform(
        manifest=inputs.manifest,
        directory=Path(params.directory),
        settings={**params.platform, "dtype": params.settings["dtypes"][-1]},
        attention=params.attention,
    )
    from tremor.experiments import noise_floors  # imports torch, for which the session has set the platform

    noise_floors.measure(
        opened,
        directory=Path(params.directory),
        prompts=inputs.prompts,
        settings=params.settings,
        **vars(outputs),
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
