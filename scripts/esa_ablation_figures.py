"""Rules esa_*_figures of the analyses that remove weights: the figures that are asked for, from one table."""

from tremor import job
from tremor.figures import esa_ablation, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    table, provenance = read_csv(inputs.table), table_provenance(inputs.table)
    for figure, files in vars(outputs).items():
        drawn = esa_ablation.FIGURES[params.analysis][figure](table, title=params.wildcards.model)
        save.save(drawn, job.listed(files), provenance=provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
