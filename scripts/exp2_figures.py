"""Rule exp2_figures: distribution of sigma_1 over prompts, difference quotients, and noisy averages."""

from tremor import job
from tremor.figures import quotients, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    names = params.wildcards
    title = f"{names.model}, {names.precision}"
    figures = {
        "distribution": quotients.distribution(read_csv(inputs.table), title=title),
        "quotients": quotients.by_step(read_csv(inputs.quotients), title=title),
        "averages": quotients.averages(read_csv(inputs.averages), title=title),
    }
    origin = table_provenance(inputs.table)
    for name, figure in figures.items():
        paths = job.listed(getattr(outputs, name))
        save.save(figure, paths, provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
