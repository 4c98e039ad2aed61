"""Rule esa_bit_level_figures: effect by bit position, attacks, precision, and the bits of the weights."""

from tremor import job
from tremor.figures import esa_bits, save
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    title = params.wildcards.model
    drawn = {
        "positions": (esa_bits.positions(read_csv(inputs.positions), title=title), inputs.positions),
        "attack": (esa_bits.attack(read_csv(inputs.attack), title=title), inputs.attack),
        "precision": (esa_bits.precision(read_csv(inputs.precision), title=title), inputs.precision),
        "statistics": (
            esa_bits.statistics(read_csv(inputs.ones), read_csv(inputs.exponents), title=title),
            inputs.ones,
        ),
    }
    for name, (figure, source) in drawn.items():
        files = job.listed(getattr(outputs, name))
        save.save(figure, files, provenance=table_provenance(source), dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
