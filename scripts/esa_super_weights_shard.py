"""Rule esa_super_weights_shard: scores of a shard's share of the tensors."""

from tremor import job
from tremor.experiments import session
from tremor.shards import Shard


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_super_weights  # imports torch, for which the session has set the platform
    from tremor.store.shards import write_part

    found = esa_super_weights.part(
        opened,
        texts=params.texts,
        scores=params.scores,
        settings=params.settings,
        shard=Shard.parse(params.wildcards.shard),
    )
    write_part(outputs.part, found, provenance=opened.provenance(**job.provenance(inputs, params), seeds=found.seeds))


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
