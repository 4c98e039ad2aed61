"""Rules esa_super_weights_measure, esa_super_weights_gather: the most important weights, and what removal costs."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_super_weights  # imports torch, for which the session has set the platform

    esa_super_weights.measure(
        opened,
        texts=params.texts,
        scores=params.scores,
        settings=params.settings,
        weights=outputs.weights,
        peaks=outputs.peaks,
        effects=outputs.effects,
        changes=outputs.changes,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
        parts=job.listed(getattr(inputs, "parts", [])),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
