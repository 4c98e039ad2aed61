"""Rule exp7_zoom: a window of the planes, computed anew or cut out."""

from tremor import job
from tremor.experiments import randomness, session


def run(inputs, params, outputs):
    origin = job.provenance(inputs, params)
    if params.settings["zoom_method"] == "crop":
        randomness.crop(inputs.planes, settings=params.settings, data=outputs.data, provenance=origin)
        return
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import planes  # imports torch, for which the session has set the platform

    planes.measure_zoom(
        opened,
        params.prompt,
        arithmetic=params.wildcards.arithmetic,
        probe=params.probe,
        settings=params.settings,
        tie=inputs.tie,
        spectrum=inputs.spectrum,
        data=outputs.data,
        provenance=origin,
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
