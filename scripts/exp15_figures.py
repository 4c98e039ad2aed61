"""Rule exp15_figures: how far input and output move at the boundary."""

from tremor import job
from tremor.figures import distances, save
from tremor.store.provenance import read_provenance
from tremor.store.tables import read_csv


def run(inputs, params, outputs):
    table = read_csv(inputs.table)
    names = params.wildcards
    draw = {"angles": distances.by_angle, "vectors": distances.by_vector}[names.variant]
    figure = draw(
        {name: table[name].to_numpy() for name in table.columns},
        title=f"{names.model}, {names.prompt}, {names.arithmetic} arithmetic",
    )
    paths = job.listed(outputs.distances)
    save.save(figure, paths, provenance=read_provenance(inputs.table), dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
