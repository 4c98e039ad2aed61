"""Rule exp1_figures: differences through the layers, where they are, the sweep and the walk."""

from tremor import job
from tremor.figures import propagation, save
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv, read_parquet

TABLES = ("rank", "jump", "jump_index")


def run(inputs, params, outputs):
    head = read_hdf5(inputs.states, names=TABLES)
    taps = head.attributes["taps"]
    states = read_hdf5(inputs.states, names=(*TABLES, *(f"jump_states/{tap}" for tap in taps)))
    names = params.wildcards
    numerics = "true float64" if names.numerics == "true_float64" else f"{names.numerics} arithmetic"
    title = f"{names.model}, {names.prompt}, {numerics}"
    width = states.array(f"jump_states/{head.attributes['first_block']}").shape[1]
    figures = {
        "layers": propagation.layers(read_csv(inputs.layers), title=title),
        "heatmap": propagation.heatmap(states.datasets, taps, title=title),
        "sweep": propagation.sweep(read_csv(inputs.sweep), width=width, title=title),
        "walk": propagation.walk(read_parquet(inputs.walk), title=title),
    }
    for name, figure in figures.items():
        paths = job.listed(getattr(outputs, name))
        save.save(figure, paths, provenance=states.provenance, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
