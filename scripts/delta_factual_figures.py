"""Rule delta_factual_figures: the matrix of erased and measured relations, and how specific the choices are."""

from tremor import job
from tremor.figures import neurons, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    drawn = {
        "matrix": neurons.matrix(read_csv(inputs.matrix), wording=params.wording),
        "patterns": neurons.patterns(read_csv(inputs.summary), wording=params.wording),
    }
    for name, figure in drawn.items():
        origin = table_provenance(inputs.summary)
        save.save(figure, job.listed(getattr(outputs, name)), provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
