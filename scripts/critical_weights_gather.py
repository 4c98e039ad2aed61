"""Rule critical_weights_gather: the effects that the shards measured, together."""

from tremor import job
from tremor.experiments.critical_effects import write_effects
from tremor.store import shards


def run(inputs, params, outputs):
    whole, origin = shards.gather(job.listed(inputs.parts))
    write_effects(
        whole,
        table=outputs.table,
        controls=outputs.controls,
        data=outputs.data,
        statistics=outputs.statistics,
        provenance=shards.with_cost(origin, whole),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
