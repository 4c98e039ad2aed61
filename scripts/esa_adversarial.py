"""Rule esa_adversarial: changes of the input that are chosen to hurt, beside random ones of the same size."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_adversarial  # imports torch, for which the session has set the platform

    esa_adversarial.measure(
        opened,
        settings=params.settings,
        attempts=outputs.attempts,
        effects=outputs.effects,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
