"""Rule critical_rankings: score every weight by several metrics and rank them."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import critical_rankings  # imports torch, for which the session has set the platform

    critical_rankings.measure(
        opened,
        params.settings,
        rankings=outputs.rankings,
        scores=outputs.scores,
        components=outputs.components,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
