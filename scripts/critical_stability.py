"""Rule critical_stability: rankings under other seeds, halves of the texts and domains."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import critical_stability  # imports torch, for which the session has set the platform

    critical_stability.measure(
        opened,
        params.settings,
        table=outputs.table,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
