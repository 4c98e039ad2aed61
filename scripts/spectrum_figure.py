"""Rule spectrum_figure: singular values against their rank."""

from tremor import job
from tremor.figures import save, spectrum
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5


def run(inputs, params, outputs):
    source = read_hdf5(inputs.data, names=["singular_values"])
    statistics = read_json(inputs.statistics)
    names = params.wildcards
    figure = spectrum.spectrum(
        source.array("singular_values"),
        frobenius=statistics["frobenius_norm"],
        title=f"{names.model}, {names.prompt}, {names.dtype}",
    )
    save.save(figure, job.listed(outputs.spectrum), provenance=source.provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
