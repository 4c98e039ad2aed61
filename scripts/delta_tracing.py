"""Rule delta_tracing: which state, put back, brings an answer back."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import delta_ablation, delta_tracing  # import torch: the session has set the platform

    delta_tracing.measure(
        opened,
        fact_settings=delta_ablation.located(params.facts, job.listed(inputs.texts)),
        settings=params.settings,
        table=outputs.table,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
