"""Rule critical_rankings_gather: the scores of the shards as one ranking."""

from tremor import job
from tremor.experiments.critical_results import write_rankings
from tremor.store import shards


def run(inputs, params, outputs):
    whole, origin = shards.gather(job.listed(inputs.parts))
    write_rankings(
        whole,
        rankings=outputs.rankings,
        scores=outputs.scores,
        components=outputs.components,
        statistics=outputs.statistics,
        provenance=shards.with_cost(origin, whole),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
