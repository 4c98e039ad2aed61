"""Rule lipschitz: difference quotients of one study, with the experts that a mixture chooses."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import lipschitz  # imports torch, for which the session has set the platform

    lipschitz.measure(
        opened,
        study=params.wildcards.study,
        prompts=inputs.prompts,
        probe=params.probe,
        spectrum=params.spectrum,
        settings=params.settings,
        **vars(outputs),
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
