"""Rule esa_robustness: noise of growing size on the weights, many draws of it."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_robustness  # imports torch, for which the session has set the platform

    esa_robustness.measure(
        opened,
        texts=params.texts,
        scores=params.scores,
        settings=params.settings,
        draws=outputs.draws,
        levels=outputs.levels,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
