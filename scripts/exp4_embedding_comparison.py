"""Rule exp4_embedding_comparison: what both platforms' models had read, compared (part 6)."""

from tremor import job
from tremor.experiments import embeddings
from tremor.figures import divergence, save


def run(inputs, params, outputs):
    origin = job.provenance(inputs, params)
    rows = embeddings.compare(
        inputs.a,
        inputs.b,
        params.settings,
        table=outputs.table,
        rows=outputs.rows,
        statistics=outputs.statistics,
        provenance=origin,
    )
    figure = divergence.embeddings(rows, title=f"{params.wildcards.model}, {params.wildcards.pair}")
    save.save(figure, job.listed(outputs.figure), provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
