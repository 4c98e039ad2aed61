"""Rule delta_jacobian: gain, sensitivity and effective rank of every layer of one model."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import delta_jacobian  # imports torch, for which the session has set the platform

    delta_jacobian.measure(
        opened,
        settings=params.settings,
        file=job.listed(inputs.texts)[0],
        data=outputs.data,
        table=outputs.table,
        ranks=outputs.ranks,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
