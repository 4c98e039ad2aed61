"""Rule pdf: every word of a document under a model."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import document  # imports torch, for which the session has set the platform

    document.measure(
        opened,
        inputs.document,
        params.settings,
        data=outputs.data,
        table=outputs.table,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
