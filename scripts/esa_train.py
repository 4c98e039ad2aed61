"""Rule esa_train: fine-tune a model on a text file, and evaluate it before and after."""

from pathlib import Path

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype="float32")
    from tremor.experiments import esa_train  # imports torch, for which the session has set the platform

    esa_train.measure(
        opened,
        settings=params.settings,
        texts=params.texts,
        file=inputs.file,
        directory=Path(params.directory),
        dtype=params.dtype,
        model=outputs.model,
        description=outputs.manifest,
        losses=outputs.losses,
        evaluation=outputs.evaluation,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
