"""Rule pdf_figures: a document word by word, its distributions, and cosines."""

from tremor import job
from tremor.figures import documents, save
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv


def run(inputs, params, outputs):
    words = read_csv(inputs.table)
    source = read_hdf5(inputs.data, names=("log_probability", "rank", "word", "position", "context"))
    title = f"{params.wildcards.document}, {params.wildcards.model}, {source.attributes['dtype']}"
    for draw in (documents.course, documents.distributions, documents.cosines):
        figure = draw(words, source.datasets, title=title)
        paths = job.listed(getattr(outputs, draw.__name__))
        save.save(figure, paths, provenance=source.provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
