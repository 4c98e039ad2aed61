"""Rule exp4_dimensions: how many coordinates of the final state differ, by how much (part 3)."""

from tremor import job
from tremor.experiments import dimensions
from tremor.figures import divergence, save


def run(inputs, params, outputs):
    origin = job.provenance(inputs, params)
    table = dimensions.measure(
        job.listed(inputs.a),
        job.listed(inputs.b),
        inputs.document,
        params.settings,
        table=outputs.table,
        statistics=outputs.statistics,
        provenance=origin,
    )
    title = f"{params.wildcards.model}, {params.wildcards.pair}"
    figure = divergence.dimensions(table, title=title)
    save.save(figure, job.listed(outputs.figure), provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
