"""Rule exp8: where two platforms part, and every stage at the row that decided."""

from tremor import job
from tremor.experiments import stage_divergence


def run(inputs, params, outputs):
    stage_divergence.compare(
        job.listed(inputs.a),
        job.listed(inputs.b),
        divergence=outputs.divergence,
        table=outputs.table,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
