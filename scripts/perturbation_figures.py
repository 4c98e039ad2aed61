"""Rule perturbation_figures: what noise of each kind changes, and what a constant takes away."""

from tremor import job
from tremor.figures import perturbation, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    names = params.wildcards
    figure = perturbation.perturbation(read_csv(inputs.table), title=f"{names.model}, {names.precision}")
    origin = table_provenance(inputs.table)
    save.save(figure, job.listed(outputs.perturbation), provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
