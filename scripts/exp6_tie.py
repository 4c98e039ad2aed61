"""Rule exp6_tie: an input at which the two leading tokens are tied."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import ties  # imports torch, for which the session has set the platform

    ties.measure_tie(
        opened,
        params.prompt,
        method=params.wildcards.tie,
        probe=params.probe,
        settings=params.settings,
        data=outputs.data,
        history=outputs.history,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
