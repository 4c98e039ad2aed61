"""Rule esa_targeted_perturbation_gather: the effects that the shards measured, together."""

from tremor import job
from tremor.experiments.esa_targeted_results import write_targeted
from tremor.store import shards


def run(inputs, params, outputs):
    whole, origin = shards.gather(job.listed(inputs.parts))
    write_targeted(
        whole,
        effects=outputs.effects,
        draws=outputs.draws,
        statistics=outputs.statistics,
        provenance=shards.with_cost(origin, whole),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
