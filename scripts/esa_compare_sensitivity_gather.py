"""Rule esa_compare_sensitivity_gather: rankings of the shards as those of the whole, compared."""

from tremor import job
from tremor.experiments.esa_compare_results import write_comparison
from tremor.store import shards


def run(inputs, params, outputs):
    whole, origin = shards.gather(job.listed(inputs.parts))
    write_comparison(
        whole,
        weights=outputs.weights,
        methods=outputs.methods,
        pairs=outputs.pairs,
        statistics=outputs.statistics,
        provenance=shards.with_cost(origin, whole),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
