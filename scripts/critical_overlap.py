"""Rule critical_overlap: what the metrics agree on, where the weights lie, how heavy the tails are."""

from tremor import job
from tremor.experiments import critical_overlap


def run(inputs, params, outputs):
    provenance = job.provenance(inputs, params)
    critical_overlap.analyse(
        params.settings,
        rankings=inputs.rankings,
        scores=inputs.scores,
        components=inputs.components,
        overlaps=outputs.overlaps,
        depth=outputs.depth,
        statistics=outputs.statistics,
        provenance=provenance,
    )
    critical_overlap.write_tops(
        params.settings, rankings=inputs.rankings, tops=job.listed(outputs.tops), provenance=provenance
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
