"""Rule exp9_components: which scalars of which stored tensor are what, from the model's anatomy."""

from pathlib import Path

from tremor import job
from tremor.experiments import session
from tremor.models import manifest


def run(inputs, params, outputs):
    dtype = manifest.stored_dtype(manifest.read(inputs.manifest))
    params.probe["device"] = "cpu"  # one forward on three tokens: the CPU's memory is the larger one
    opened = session.open_job(inputs, params, dtype=dtype)
    from tremor.experiments import weight_components  # imports torch, for which the session has set the platform

    weight_components.measure(
        opened,
        Path(params.directory),
        output=outputs.components,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
