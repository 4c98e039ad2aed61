"""Rule exp13_figures: the boundary along singular vectors, against rank and sigma."""

from tremor import job
from tremor.figures import save, vectors
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5

NAMES = ("kind", "vector", "sign", "sigma", "max_s", "censored", "certified")


def run(inputs, params, outputs):
    source = read_hdf5(inputs.data, names=NAMES)
    statistics = read_json(inputs.statistics)
    names = params.wildcards
    figure = vectors.stability(
        source.datasets,
        spearman=statistics["spearman_max_s_sigma"],
        p_value=statistics["spearman_p"],
        title=f"{names.model}, {names.prompt}, {names.arithmetic} arithmetic",
    )
    paths = job.listed(outputs.stability)
    save.save(figure, paths, provenance=source.provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
