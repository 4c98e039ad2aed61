"""Rule exp7_zoom_shard: a shard's share of the rows of the zoom."""

from tremor import job
from tremor.experiments import session
from tremor.shards import Shard


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import planes  # imports torch, for which the session has set the platform

    planes.measure_zoom(
        opened,
        params.prompt,
        arithmetic=params.wildcards.arithmetic,
        probe=params.probe,
        settings=params.settings,
        tie=inputs.tie,
        spectrum=inputs.spectrum,
        shard=Shard.parse(params.wildcards.shard),
        data=outputs.part,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
