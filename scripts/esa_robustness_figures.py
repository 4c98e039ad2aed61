"""Rule esa_robustness_figures: what noise of growing size does to the predictions."""

from tremor import job
from tremor.figures import esa_faults, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    figure = esa_faults.noise(read_csv(inputs.levels), title=params.wildcards.model)
    provenance = table_provenance(inputs.levels)
    save.save(figure, job.listed(outputs.noise), provenance=provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
