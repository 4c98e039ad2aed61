"""Rule esa_evaluate: likelihood, calibration and generations of a model."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_evaluate  # imports torch, for which the session has set the platform

    esa_evaluate.measure(
        opened,
        settings=params.settings,
        files=job.listed(inputs.texts),
        texts=outputs.texts,
        domains=outputs.domains,
        bins=outputs.bins,
        tasks=outputs.tasks,
        generations=outputs.generations,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
