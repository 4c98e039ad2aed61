"""Rule exp6_figures: the search for a tie, and the flips around it."""

from tremor import job
from tremor.figures import save, ties
from tremor.store.documents import read_json
from tremor.store.tables import read_csv, read_parquet, table_provenance


def run(inputs, params, outputs):
    tie, names = read_json(inputs.tie), params.wildcards
    title = f"{names.model}, {names.prompt}, {names.tie} tie, {names.arithmetic} arithmetic"
    drawn = {
        "search": ties.search(read_csv(inputs.history), tie, title=title),
        "flips": ties.flips(read_parquet(inputs.table), read_csv(inputs.nearest), tie, title=title),
    }
    origin = table_provenance(inputs.table)
    for name, figure in drawn.items():
        paths = job.listed(getattr(outputs, name))
        save.save(figure, paths, provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
