"""Rule esa_pruning: sparsity against likelihood, and pruned models."""

from pathlib import Path

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_pruning  # imports torch, for which the session has set the platform

    esa_pruning.measure(
        opened,
        directory=Path(params.directory),
        texts=params.texts,
        scores=params.scores,
        settings=params.settings,
        curves=outputs.curves,
        checkpoints=outputs.checkpoints,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
