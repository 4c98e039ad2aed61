"""Rule esa_selective_weight_pruning: named selections of weights replaced, and text written before and after."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_selective  # imports torch, for which the session has set the platform

    esa_selective.measure(
        opened,
        texts=params.texts,
        scores=params.scores,
        settings=params.settings,
        effects=outputs.effects,
        generations=outputs.generations,
        selections=outputs.selections,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
