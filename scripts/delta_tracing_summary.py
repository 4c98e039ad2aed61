"""Rule delta_tracing_summary: traces of all models by kind of state, layer and role of the position."""

from tremor import job
from tremor.experiments import delta_tables, summaries
from tremor.store.documents import read_json
from tremor.store.tables import read_csv


def run(inputs, params, outputs):
    traces = [read_csv(path) for path in job.listed(inputs.tables)]
    counts = [read_json(path)["layers"] for path in job.listed(inputs.statistics)]
    table = delta_tables.tracing(
        dict(zip(params.models, traces, strict=True)), dict(zip(params.models, counts, strict=True))
    )
    summaries.write("delta/tracing", outputs.table, table, job.provenance(inputs, params))


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
