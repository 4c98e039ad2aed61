"""Rule esa_bit_level: flipped bits, attacks by bit flips, lower precision, and the bits of the weights."""

from tremor import job
from tremor.experiments import session

TABLES = ("faults", "positions", "attack", "precision", "ones", "exponents", "effects")


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_bits  # imports torch, for which the session has set the platform

    esa_bits.measure(
        opened,
        texts=params.texts,
        settings=params.settings,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
        **{name: getattr(outputs, name) for name in TABLES},
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
