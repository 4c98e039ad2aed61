"""Rule exp2: sigma_1, difference quotients and noisy averages over a set of prompts, in one precision."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    precision = params.wildcards.precision
    opened = session.open_job(inputs, params, dtype=precision.removeprefix("true_"))
    from tremor.experiments import average_lipschitz  # imports torch, for which the session has set the platform

    average_lipschitz.measure(
        opened,
        precision=precision,
        prompts=inputs.prompts,
        probe=params.probe,
        spectrum=params.spectrum,
        settings=params.settings,
        data=outputs.data,
        table=outputs.table,
        quotients=outputs.quotients,
        averages=outputs.averages,
        statistics=outputs.statistics,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
