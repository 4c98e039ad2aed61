"""Rule exp14_figures: what each small step changes, distributions of the jumps, and their scaling."""

from tremor import job
from tremor.figures import save, small_steps
from tremor.store.tables import read_csv, read_parquet, table_provenance


def run(inputs, params, outputs):
    steps, table = read_parquet(inputs.steps), read_csv(inputs.scaling)
    names = params.wildcards
    title = f"{names.model}, {names.prompt}, {names.arithmetic} arithmetic"
    floor = float(table["noise_floor_l2"].iloc[0])
    figures = {
        "differences": small_steps.differences(steps, floor=floor, title=title),
        "distributions": small_steps.distributions(steps, floor=floor, title=title),
        "scaling": small_steps.scaling(steps, table, title=title),
    }
    origin = table_provenance(inputs.steps)
    for name, figure in figures.items():
        paths = job.listed(getattr(outputs, name))
        save.save(figure, paths, provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
