"""Rule critical_weights_figures: effects, controls, agreement, stability, depth and tails."""

from tremor import job
from tremor.figures import critical, save
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv


def run(inputs, params, outputs):
    source, fits = read_hdf5(inputs.scores), read_json(inputs.statistics)["metrics"]
    table, controls = read_csv(inputs.table), read_csv(inputs.controls)
    k, title = critical.middle(params.settings["topk"]), f"weights of {params.wildcards.model}"
    scores = {name: source.array(f"score/{name}") for name in fits}
    figures = {
        "effects": critical.effects(table, controls, title=title),
        "controls": critical.controls(table, controls, title=title),
        "overlap": critical.overlap(read_csv(inputs.overlaps), topk=k, title=title),
        "stability": critical.stability(read_csv(inputs.stability), topk=k, title=title),
        "depth": critical.depth(read_csv(inputs.depth), topk=k, title=title),
        "tails": critical.tails(scores, fits, title=title),
    }
    for name, figure in figures.items():
        save.save(figure, job.listed(getattr(outputs, name)), provenance=source.provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
