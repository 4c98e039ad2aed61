"""Rule exp9: statistics and singular values of every weight matrix, from the files."""

from pathlib import Path

from tremor import job
from tremor.experiments import weight_matrices


def run(inputs, params, outputs):
    weight_matrices.measure(
        inputs.manifest,
        inputs.components,
        Path(params.directory),
        params.settings,
        data=outputs.data,
        table=outputs.table,
        by_component=outputs.by_component,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
