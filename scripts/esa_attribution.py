"""Rule esa_attribution: ask a language model which components matter, and hold it to the measured costs."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_attribution  # imports torch, for which the session has set the platform

    esa_attribution.ask(
        opened,
        subject=params.wildcards.model,
        settings=params.settings,
        components=inputs.components,
        answers=outputs.answers,
        methods=outputs.methods,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
