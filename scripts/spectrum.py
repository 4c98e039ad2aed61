"""Rule spectrum: Jacobian at the prompt and its singular vectors."""

from pathlib import Path

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_session(
        manifest=inputs.manifest,
        directory=Path(params.directory),
        dtype=params.wildcards.dtype,
        attention=params.attention,
        probe=params.probe,
    )
    from tremor.experiments import spectrum  # imports torch, for which the session has set the platform

    spectrum.measure(
        opened,
        params.prompt,
        params.settings,
        data=outputs.data,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
