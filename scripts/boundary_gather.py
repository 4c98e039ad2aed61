"""Rule boundary_gather (exp12, exp13): the boundaries that the shards found, together."""

from tremor import job
from tremor.experiments.boundary_results import WRITERS
from tremor.store import shards


def run(inputs, params, outputs):
    whole, origin = shards.gather(job.listed(inputs.parts))
    write = WRITERS[params.wildcards.experiment]
    origin = shards.with_cost(origin, whole)
    write(whole, data=outputs.data, table=outputs.table, statistics=outputs.statistics, provenance=origin)


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
