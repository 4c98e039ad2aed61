"""Rule exp8_values: the values of every stage at the row that decided, by decade, bits and lattice steps."""

from tremor import job
from tremor.experiments import stage_values


def run(inputs, params, outputs):
    stage_values.compare(
        job.listed(inputs.a),
        job.listed(inputs.b),
        divergence=inputs.divergence,
        settings=params.settings,
        table=outputs.table,
        data=outputs.data,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
