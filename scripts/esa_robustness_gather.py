"""Rule esa_robustness_gather: the draws of the shards, together."""

from tremor import job
from tremor.experiments.esa_robustness_results import write_robustness
from tremor.store import shards


def run(inputs, params, outputs):
    whole, origin = shards.gather(job.listed(inputs.parts))
    write_robustness(
        whole,
        draws=outputs.draws,
        levels=outputs.levels,
        statistics=outputs.statistics,
        provenance=shards.with_cost(origin, whole),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
