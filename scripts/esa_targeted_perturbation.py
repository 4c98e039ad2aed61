"""Rule esa_targeted_perturbation: rising shares of the most important weights changed."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_targeted  # imports torch, for which the session has set the platform

    esa_targeted.measure(
        opened,
        texts=params.texts,
        scores=params.scores,
        settings=params.settings,
        effects=outputs.effects,
        draws=outputs.draws,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
