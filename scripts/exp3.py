"""Rule exp3: where a step survives, and how far the precisions' answers lie apart."""

from tremor import job
from tremor.experiments import precision


def run(inputs, params, outputs):
    precision.measure(
        params.wildcards.prompt,
        settings=params.settings,
        spectrum=inputs.spectrum,
        states=job.listed(inputs.states),
        tops=job.listed(inputs.tops),
        **vars(outputs),
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
