"""Rule cross_figures: what changing critical weights does to spectrum, floor, boundary and likelihood."""

from tremor import job
from tremor.figures import cross, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    table, controls = read_csv(inputs.table), read_csv(inputs.controls)
    names = params.wildcards
    title = f"{names.model} at '{names.prompt}'"
    figures = {
        "changes": cross.changes(table, controls, title=title),
        "effects": cross.effects(table, controls, title=title),
    }
    for name, figure in figures.items():
        paths = job.listed(getattr(outputs, name))
        save.save(figure, paths, provenance=table_provenance(inputs.table), dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
