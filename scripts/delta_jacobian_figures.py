"""Rule delta_jacobian_figures: gain, effective rank and sensitivity of all models over relative depth."""

from tremor import job
from tremor.figures import delta, save
from tremor.store.provenance import read_provenance
from tremor.store.tables import read_csv


def run(inputs, params, outputs):
    tables = job.listed(inputs.tables)
    models = [row["model"] for row in params.rows]
    layers = {model: read_csv(path) for model, path in zip(models, tables, strict=True)}
    ranks = {model: read_csv(path) for model, path in zip(models, job.listed(inputs.ranks), strict=True)}
    drawn = {
        "gain": delta.gain(layers),
        "rank": delta.rank(layers, ranks),
        "sensitivity": delta.sensitivity(layers),
    }
    for name, figure in drawn.items():
        paths = job.listed(getattr(outputs, name))
        save.save(figure, paths, provenance=read_provenance(tables[0]), dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
