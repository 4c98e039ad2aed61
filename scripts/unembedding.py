"""Rule unembedding: the matrix that turns the final state into logits, and the norm before it."""

from pathlib import Path

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    # Weights are copied, not used: any CPU gives the same bits.
    opened = session.open_session(
        manifest=inputs.manifest,
        directory=Path(params.directory),
        dtype=params.wildcards.dtype,
        attention=params.attention,
        probe={"device": "cpu", "threads": 1, "max_memory": 1.0},
    )
    from tremor.experiments import unembedding  # imports torch, for which the session has set the platform

    unembedding.export(opened, data=outputs.data, provenance=job.provenance(inputs, params))


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
