"""Rule regimes_figures: the map a paper prints, all directions, and the avalanche through the layers."""

from tremor import job
from tremor.figures import regimes, save
from tremor.store.documents import read_json
from tremor.store.provenance import read_provenance
from tremor.store.tables import read_csv, read_parquet


def run(inputs, params, outputs):
    steps, bands, crossovers = read_parquet(inputs.steps), read_csv(inputs.bands), read_csv(inputs.crossovers)
    dtype = read_json(inputs.statistics)["dtype"]
    title = f"{params.wildcards.model}, {params.wildcards.prompt}"
    drawn = {
        "regimes": regimes.regimes(steps, bands, crossovers, dtype=dtype, title=title),
        "directions": regimes.directions(steps, crossovers, title=title),
        "avalanche": regimes.avalanche(read_parquet(inputs.avalanche), crossovers, title=title),
    }
    for name, figure in drawn.items():
        paths = job.listed(getattr(outputs, name))
        save.save(figure, paths, provenance=read_provenance(inputs.crossovers), dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
