"""Rule exp11_figures: how many coordinates change along turned directions, and which."""

from tremor import job
from tremor.figures import rotations, save
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv

RAGGED = tuple(f"{tap}/{name}" for tap in ("embedding", "first_block") for name in ("indices", "offsets", "counts"))


def run(inputs, params, outputs):
    source = read_hdf5(inputs.data, names=("kind", "jump", "x0", *RAGGED))
    names = params.wildcards
    title = f"{names.model}, {names.prompt}, {names.arithmetic} arithmetic"
    data = {**source.datasets, "width": source.attributes["width"]}
    figures = {
        "counts": rotations.counts(read_csv(inputs.table), title=title),
        "indices": rotations.indices(data, title=title),
    }
    for name, figure in figures.items():
        paths = job.listed(getattr(outputs, name))
        save.save(figure, paths, provenance=source.provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
