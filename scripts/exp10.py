"""Rule exp10: steps through a chain of matrices, one weight and an MLP, down to nothing."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import sweeps  # imports torch, for which the session has set the platform

    sweeps.measure(
        opened,
        params.prompt,
        settings=params.settings,
        matrices=inputs.matrices,
        data=outputs.data,
        sweep=outputs.sweep,
        subjects=outputs.subjects,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
