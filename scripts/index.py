"""Rule index: the page of results."""

from tremor import job
from tremor.report import build


def run(inputs, params, outputs):
    sources = build.Sources(
        results=outputs.page.parent,
        tables=job.listed(inputs.tables),
        figures=job.listed(inputs.figures),
        data=job.listed(inputs.data),
        manifests=job.listed(inputs.manifests),
        names=params.names,
        docs=params.docs,
    )
    build.write(outputs.page, sources, **params.settings)


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
