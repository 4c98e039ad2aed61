"""Rule delta_factual: every relation's neurons against every relation's facts, and tables of it."""

from tremor import job
from tremor.experiments import delta_tables, summaries


def run(inputs, params, outputs):
    origin = job.provenance(inputs, params)
    cells = delta_tables.matrix(delta_tables.read(params.models, job.listed(inputs.data)))
    table = delta_tables.factual(cells)
    summaries.write("delta/factual", outputs.summary, table, origin)
    summaries.write(None, outputs.matrix, cells, origin)
    summaries.write(None, outputs.comparison, delta_tables.comparison(table), origin)
    summaries.write(None, outputs.patterns, delta_tables.patterns(table), origin)


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
