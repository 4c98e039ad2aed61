"""Rule boundary_shard (exp12, exp13): boundaries along a shard's share of the rays."""

from tremor import job
from tremor.experiments import session
from tremor.shards import Shard


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import boundary  # imports torch, for which the session has set the platform
    from tremor.store.shards import write_part

    found = boundary.FIND[params.wildcards.experiment](
        opened,
        params.prompt,
        arithmetic=params.wildcards.arithmetic,
        probe=params.probe,
        settings=params.settings,
        spectrum=inputs.spectrum,
        shard=Shard.parse(params.wildcards.shard),
    )
    write_part(outputs.part, found, provenance=opened.provenance(**job.provenance(inputs, params), seeds=found.seeds))


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
