"""Rule exp6_spectrum: Jacobian at a tie and its singular vectors."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import spectrum, ties  # imports torch, for which the session has set the platform

    base, _ = ties.tie_base(opened, params.prompt, inputs.tie)
    spectrum.measure(
        opened,
        params.prompt,
        params.settings,
        data=outputs.data,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
        base=base,
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
