"""Rule exp12_figures: the boundary in a plane, four ways."""

from tremor import job
from tremor.figures import boundary, save
from tremor.store.hdf5 import read_hdf5

NAMES = ("theta", "max_s", "min_t", "first_breakpoint", "censored", "certified")


def run(inputs, params, outputs):
    source = read_hdf5(inputs.data, names=NAMES)
    names = params.wildcards
    title = f"{names.model}, {names.prompt}, {names.arithmetic} arithmetic"
    for draw in (boundary.polar, boundary.cartesian, boundary.radar, boundary.plane):
        figure = draw(source.datasets, title=title)
        paths = job.listed(getattr(outputs, draw.__name__))
        save.save(figure, paths, provenance=source.provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
