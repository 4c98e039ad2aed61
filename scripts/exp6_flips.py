"""Rule exp6_flips: which steps from a tie flip the token."""

from tremor import job
from tremor.experiments import session
from tremor.store.documents import read_json


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import ties  # imports torch, for which the session has set the platform

    ties.measure_flips(
        opened,
        params.prompt,
        arithmetic=params.wildcards.arithmetic,
        probe=params.probe,
        settings=params.settings,
        tie=inputs.tie,
        spectrum=inputs.spectrum,
        tie_statistics=read_json(inputs.tie_statistics),
        **{name: getattr(outputs, name) for name in ("table", "intervals", "nearest", "statistics")},
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
