"""Rule exp2_shard: a shard's share of the prompts, in one precision."""

from tremor import job
from tremor.experiments import session
from tremor.shards import Shard


def run(inputs, params, outputs):
    precision = params.wildcards.precision
    opened = session.open_job(inputs, params, dtype=precision.removeprefix("true_"))
    from tremor.experiments import average_lipschitz  # imports torch, for which the session has set the platform
    from tremor.store.shards import write_part

    found = average_lipschitz.part(
        opened,
        precision=precision,
        prompts=inputs.prompts,
        probe=params.probe,
        spectrum=params.spectrum,
        settings=params.settings,
        shard=Shard.parse(params.wildcards.shard),
    )
    write_part(outputs.part, found, provenance=opened.provenance(**job.provenance(inputs, params), seeds=found.seeds))


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
