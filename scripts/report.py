"""Rule report: Snakemake's own report of all results."""

from tremor import job
from tremor.report import snakemake_report


def run(inputs, params, outputs):
    snakemake_report.write(outputs.page, job.listed(inputs.files), **params.run)


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
