"""Rule exp3_states: one precision's answers to all selected prompts."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    precision = params.wildcards.precision
    opened = session.open_job(inputs, params, dtype=precision.removeprefix("true_"))
    from tremor.experiments import precision_states  # imports torch, for which the session has set the platform

    precision_states.measure(
        opened,
        params.prompts,
        precision=precision,
        probe=params.probe,
        top_tokens=params.settings["top_tokens"],
        data=outputs.data,
        table=outputs.table,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
