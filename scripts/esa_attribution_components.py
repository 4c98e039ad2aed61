"""Rule esa_attribution_components: statistics, scores and measured costs of components."""

from tremor import job
from tremor.experiments import session


def run(inputs, params, outputs):
    opened = session.open_job(inputs, params, dtype=params.dtype)
    from tremor.experiments import esa_attribution  # imports torch, for which the session has set the platform

    esa_attribution.describe(
        opened,
        texts=params.texts,
        scores=params.scores,
        effects=inputs.effects,
        level=params.settings["level"],
        components=outputs.components,
        provenance=job.provenance(inputs, params),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
