"""Rules esa_evaluate_figures, _train_, _attribution_ and _integrated_figures: drawn from their tables."""

from tremor import job
from tremor.figures import esa_models, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    title = getattr(params.wildcards, "model", None)
    for name in vars(outputs):
        draw, source = esa_models.DRAWN[name]
        path = getattr(inputs, source)
        figure = draw(read_csv(path), title=title)
        files = job.listed(getattr(outputs, name))
        save.save(figure, files, provenance=table_provenance(path), dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
