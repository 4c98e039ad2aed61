"""Rule delta_jacobian_comparison: the models' layers at common relative depths."""

from tremor import job
from tremor.experiments import delta_depths


def run(inputs, params, outputs):
    delta_depths.compare(
        job.listed(inputs.tables),
        params.rows,
        depths=params.depths,
        output=outputs.table,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
