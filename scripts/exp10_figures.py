"""Rule exp10_figures: magnification of smaller and smaller steps."""

from tremor import job
from tremor.figures import save, sweeps
from tremor.store.provenance import read_provenance
from tremor.store.tables import read_csv


def run(inputs, params, outputs):
    figure = sweeps.sweeps(read_csv(inputs.sweep), title=f"{params.wildcards.model}, {params.wildcards.prompt}")
    paths = job.listed(outputs.sweeps)
    save.save(figure, paths, provenance=read_provenance(inputs.sweep), dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
