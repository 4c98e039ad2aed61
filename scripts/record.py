"""Rule record: a model's answers to the questions on one platform, and the states behind them."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_platform_job(inputs, params)
    from tremor.experiments import recordings  # imports torch, for which the session has set the platform

    recordings.measure(
        opened,
        questions=inputs.questions,
        settings=params.recorder,
        decode=params.platform["decode"],
        batch=params.platform["batch"],
        recordings=job.listed(outputs.recordings),
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
