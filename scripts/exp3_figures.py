"""Rule exp3_figures: survival of steps by format and bits, and distances between precisions."""

from tremor import job
from tremor.figures import precision, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    names = params.wildcards
    figure = precision.precision(
        read_csv(inputs.survival),
        read_csv(inputs.levels),
        read_csv(inputs.precisions),
        title=f"{names.model}, {names.prompt}",
    )
    origin = table_provenance(inputs.survival)
    save.save(figure, job.listed(outputs.precision), provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
