"""Rule delta_percentage: what ablations cost, in nats and in percent of perplexity, beside random units."""

from tremor import job
from tremor.experiments import delta_tables, summaries


def run(inputs, params, outputs):
    models = delta_tables.read(params.models, job.listed(inputs.data))
    table = delta_tables.percentage(models, params.settings)
    origin = job.provenance(inputs, params)
    summaries.write("delta/percentage", outputs.summary, table, origin)
    summaries.write(None, outputs.regressions, delta_tables.regressions(table), origin)


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
