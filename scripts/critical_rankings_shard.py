"""Rule critical_rankings_shard: score a shard's share of the tensors by several metrics."""

from tremor import job
from tremor.experiments import session
from tremor.shards import Shard


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import critical_rankings  # imports torch, for which the session has set the platform
    from tremor.store.shards import write_part

    found = critical_rankings.part(
        opened,
        params.settings,
        shard=Shard.parse(params.wildcards.shard),
    )
    write_part(outputs.part, found, provenance=opened.provenance(**job.provenance(inputs, params), seeds=found.seeds))


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
