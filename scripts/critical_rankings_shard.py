"""Rule critical_rankings_shard: score a shard's share of the tensors by several metrics."""

from tremor import job
from tremor.experiments import session
from tremor.shards import Shard


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import critical_rankings  # imports torch, for which the session has set the platform

    critical_rankings.measure_shard(
        opened,
        params.settings,
        shard=Shard.parse(params.wildcards.shard),
        data=outputs.part,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
