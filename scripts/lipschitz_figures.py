"""Rule lipschitz_figures: difference quotients by step, and router flips where there are routers."""

from tremor import job
from tremor.figures import quotients, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    names = params.wildcards
    figure = quotients.by_step(read_csv(inputs.quotients), title=f"{names.model}, study {names.study}")
    origin = table_provenance(inputs.quotients)
    save.save(figure, job.listed(outputs.quotients), provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
