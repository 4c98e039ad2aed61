"""Rule exp8_figures: stages, blocks, decades, the path of the decision, growth, and the final norm."""

from tremor import job
from tremor.figures import save, stages
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv


def run(inputs, params, outputs):
    values, data = read_csv(inputs.table), read_hdf5(inputs.data)
    title = f"{params.wildcards.model}, {params.wildcards.pair}: a {params.names[0]}, b {params.names[1]}"
    counts, ulps, names = data.array("decades"), data.array("ulps"), data.attributes["decade_classes"]
    kind = read_json(inputs.statistics)["norm"]
    drawn = {
        "overview": stages.overview(values, title=title),
        "heatmaps": stages.heatmaps(values, title=title),
        "decades": stages.decades(counts, names, ulps, title=title),
        "path": stages.path(read_csv(inputs.path), title=title),
        "growth": stages.growth(read_csv(inputs.growth), title=title),
        "angles": stages.norm(read_csv(inputs.angles), kind=kind, title=title),
    }
    for name, figure in drawn.items():
        paths = job.listed(getattr(outputs, name))
        save.save(figure, paths, provenance=data.provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
