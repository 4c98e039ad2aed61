"""Rule delta_ablation: chosen and random units ablated, every sentence scored under each."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import delta_ablation  # imports torch, for which the session has set the platform

    delta_ablation.ablate(
        opened,
        fact_settings=delta_ablation.located(params.facts, job.listed(inputs.texts)),
        neuron_settings=params.neurons,
        settings=params.settings,
        neurons=inputs.neurons,
        reference=inputs.reference,
        data=outputs.data,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
