"""Rule exp7_figures: maps, signs, an enlarged rendering, the zoom, and the randomness."""

from tremor import job
from tremor.figures import planes, save
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv


def run(inputs, params, outputs):
    source, zoom, names = read_hdf5(inputs.planes), read_hdf5(inputs.zoom), params.wildcards
    title = f"{names.model}, {names.prompt}, {names.tie} tie, {names.arithmetic} arithmetic"
    window, enlarge = params.settings["window"], params.settings["enlarge"]
    drawn = {
        "maps": planes.maps(source.datasets, title=title),
        "signs": planes.signs(source.datasets, source.attributes, title=title),
        "enlarged": planes.enlarged(source.datasets, source.attributes, cells=enlarge, title=title),
        "zoom": planes.zoom(zoom.datasets, zoom.attributes, title=title),
        "texture": planes.texture(source.datasets, window=window, title=title),
        "nulls": planes.nulls(read_csv(inputs.tests), title=title),
    }
    for name, figure in drawn.items():
        paths = job.listed(getattr(outputs, name))
        save.save(figure, paths, provenance=source.provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
