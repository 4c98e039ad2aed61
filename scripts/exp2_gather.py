"""Rule exp2_gather: what the shards measured at their prompts, together."""

from tremor import job
from tremor.experiments.gain_results import write_gains
from tremor.store import shards


def run(inputs, params, outputs):
    whole, origin = shards.gather(job.listed(inputs.parts))
    write_gains(
        whole,
        data=outputs.data,
        table=outputs.table,
        quotients=outputs.quotients,
        averages=outputs.averages,
        statistics=outputs.statistics,
        provenance=origin,
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
