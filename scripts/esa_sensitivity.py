"""Rule esa_sensitivity: every block and component taken out by itself."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_sensitivity  # imports torch, for which the session has set the platform

    esa_sensitivity.measure(
        opened,
        texts=params.texts,
        settings=params.settings,
        effects=outputs.effects,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
