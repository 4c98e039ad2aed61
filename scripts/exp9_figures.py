"""Rule exp9_figures: norms, moments, magnitudes, distributions, heat maps and spectra of the weight matrices."""

from tremor import job
from tremor.figures import matrices, matrix_spectra, save
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv


def run(inputs, params, outputs):
    table, source = read_csv(inputs.table), read_hdf5(inputs.data)
    title = f"weights of {params.wildcards.model}"
    figures = {draw.__name__: draw(table, title=title) for draw in matrices.FROM_TABLE}
    for draw in matrix_spectra.FROM_ARRAYS:
        figures[draw.__name__] = draw(table, source.datasets, title=title)
    for name, figure in figures.items():
        save.save(figure, job.listed(getattr(outputs, name)), provenance=source.provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
