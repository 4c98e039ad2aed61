"""Rule esa_compare_sensitivity_shard: every method on a shard's share of the tensors."""

from tremor import job
from tremor.experiments import session
from tremor.shards import Shard


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_compare  # imports torch, for which the session has set the platform

    esa_compare.measure_shard(
        opened,
        texts=params.texts,
        scores=params.scores,
        settings=params.settings,
        shard=Shard.parse(params.wildcards.shard),
        data=outputs.part,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
