"""Rule esa_compare_sensitivity: run time of the methods and agreement of their rankings."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_compare  # imports torch, for which the session has set the platform

    esa_compare.measure(
        opened,
        texts=params.texts,
        scores=params.scores,
        settings=params.settings,
        weights=outputs.weights,
        methods=outputs.methods,
        pairs=outputs.pairs,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
