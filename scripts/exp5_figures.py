"""Rule exp5_figures: norms of the stages, the chain, and the modules of a layer."""

from tremor import job
from tremor.figures import local, save
from tremor.store.documents import read_json
from tremor.store.provenance import read_provenance
from tremor.store.tables import read_csv


def run(inputs, params, outputs):
    stages, modules = read_csv(inputs.stages), read_csv(inputs.modules)
    sigma = read_json(inputs.statistics)["sigma_1"]
    title = f"{params.wildcards.model}, {params.wildcards.prompt}"
    drawn = {
        "norms": local.norms(stages, title=title),
        "chain": local.chain(stages, sigma_1=sigma, title=title),
        "modules": local.modules(modules, title=title),
    }
    for name, figure in drawn.items():
        paths = job.listed(getattr(outputs, name))
        save.save(figure, paths, provenance=read_provenance(inputs.stages), dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
