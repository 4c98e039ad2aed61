"""Rule exp7_zoom_gather: the zoom that the shards computed, together."""

from tremor import job
from tremor.experiments.plane_results import write_planes
from tremor.store import shards


def run(inputs, params, outputs):
    whole, origin = shards.gather(job.listed(inputs.parts))
    write_planes(
        whole,
        data=outputs.data,
        provenance=shards.with_cost(origin, whole),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
