"""Rule esa_adversarial_figures: how often each attack succeeds, beside random changes of the same size."""

from tremor import job
from tremor.figures import esa_faults, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    figure = esa_faults.success(read_csv(inputs.effects), title=params.wildcards.model)
    provenance = table_provenance(inputs.effects)
    save.save(figure, job.listed(outputs.success), provenance=provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
