"""Rule esa_compare_sensitivity_figures: agreement of the methods, and their run time."""

from tremor import job
from tremor.figures import esa_scores, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    title = params.wildcards.model
    drawn = {
        "agreement": esa_scores.agreement(read_csv(inputs.pairs), title=title),
        "runtime": esa_scores.runtime(read_csv(inputs.methods), title=title),
    }
    provenance = table_provenance(inputs.pairs)
    for name, figure in drawn.items():
        save.save(figure, job.listed(getattr(outputs, name)), provenance=provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
