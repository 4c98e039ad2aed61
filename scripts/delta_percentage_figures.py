"""Rule delta_percentage_figures: effects against baselines, and by layer."""

from tremor import job
from tremor.figures import neurons, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    table = read_csv(inputs.summary)
    for draw in (neurons.percentage, neurons.layers):
        figure = draw(table, wording=params.wording)
        paths = job.listed(getattr(outputs, draw.__name__))
        save.save(figure, paths, provenance=table_provenance(inputs.summary), dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
