"""Rule critical_weights: change the weights that rankings name, and random ones, and measure what it costs."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import critical_weights  # imports torch, for which the session has set the platform

    critical_weights.measure(
        opened,
        params.settings,
        rankings=inputs.rankings,
        table=outputs.table,
        controls=outputs.controls,
        data=outputs.data,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
