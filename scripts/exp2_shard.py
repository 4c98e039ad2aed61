"""Rule exp2_shard: a shard's share of the prompts, in one precision."""

from tremor import job
from tremor.experiments import session
from tremor.shards import Shard


def run(inputs, params, outputs):
    precision = params.wildcards.precision
    opened = session.open_job(inputs, params, dtype=precision.removeprefix("true_"))
    from tremor.experiments import average_lipschitz  # imports torch, for which the session has set the platform

    average_lipschitz.measure_shard(
        opened,
        precision=precision,
        prompts=inputs.prompts,
        probe=params.probe,
        spectrum=params.spectrum,
        settings=params.settings,
        shard=Shard.parse(params.wildcards.shard),
        data=outputs.part,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
