"""Rule esa_super_weights_figures: effects of removal, activation peaks of every block, and other changes."""

from tremor import job
from tremor.figures import esa_scores, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    title = params.wildcards.model
    drawn = {
        "effects": esa_scores.effects(read_csv(inputs.effects), title=title),
        "peaks": esa_scores.peaks(read_csv(inputs.peaks), title=title),
        "changes": esa_scores.changes(read_csv(inputs.changes), title=title),
    }
    provenance = table_provenance(inputs.effects)
    for name, figure in drawn.items():
        save.save(figure, job.listed(getattr(outputs, name)), provenance=provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
