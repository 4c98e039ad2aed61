"""Rule exp4_drift: how the final states drift apart along the text (part 4)."""

from tremor import job
from tremor.experiments import dimensions
from tremor.experiments.divergence import divergences
from tremor.figures import divergence, save


def run(inputs, params, outputs):
    origin = job.provenance(inputs, params)
    rows = dimensions.drift(inputs.rows, table=outputs.table, provenance=origin)
    parted = {question: found.index for question, found in divergences(inputs.document).items()}
    title = f"{params.wildcards.model}, {params.wildcards.pair}"
    figure = divergence.drift(rows, parted, title=title)
    save.save(figure, job.listed(outputs.figure), provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
