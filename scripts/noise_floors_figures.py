"""Rule noise_floors_figures: the floors of one model on all platforms."""

from tremor import job
from tremor.figures import noise_floors, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    tables = dict(zip(params.platforms, [read_csv(path) for path in job.listed(inputs.tables)], strict=True))
    figure = noise_floors.floors(tables, title=params.wildcards.model)
    origin = table_provenance(job.listed(inputs.tables)[0])
    save.save(figure, job.listed(outputs.floors), provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
