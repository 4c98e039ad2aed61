"""Rule exp10_tensors_figures: two platforms along a chain of products."""

from tremor import job
from tremor.figures import save, sweeps
from tremor.store.provenance import read_provenance
from tremor.store.tables import read_csv


def run(inputs, params, outputs):
    first, second = params.names
    title = f"{params.wildcards.pair}: {first} and {second}"
    figure = sweeps.tensors(read_csv(inputs.steps), names=(first, second), title=title)
    paths = job.listed(outputs.tensors)
    save.save(figure, paths, provenance=read_provenance(inputs.steps), dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
