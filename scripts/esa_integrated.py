"""Rule esa_integrated: the main numbers of all analyses in one table."""

from tremor import job
from tremor.experiments import esa_integrated


def run(inputs, params, outputs):
    tuned = {name: job.listed(getattr(inputs, name)) for name in esa_integrated.TABLES if hasattr(inputs, name)}
    esa_integrated.report(
        dict(zip(params.settings["analyses"], job.listed(inputs.summaries), strict=True)),
        [row["model"] for row in params.rows],
        tuned=tuned,
        methods=params.methods,
        table=outputs.table,
        report=outputs.report,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
