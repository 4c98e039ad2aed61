"""Rule exp7_gather: the maps that the shards made, together."""

from tremor import job
from tremor.experiments.plane_results import write_planes
from tremor.store import shards


def run(inputs, params, outputs):
    whole, origin = shards.gather(job.listed(inputs.parts))
    write_planes(whole, data=outputs.data, provenance=origin)


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
