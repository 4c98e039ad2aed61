"""Rule delta_neurons: which units of a model each relation needs."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import delta_ablation  # imports torch, for which the session has set the platform

    delta_ablation.choose(
        opened,
        fact_settings=delta_ablation.located(params.facts, job.listed(inputs.texts)),
        settings=params.neurons,
        table=outputs.table,
        reference=outputs.reference,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
