"""Rule exp4_logits: the best tokens of both runs where they part, by id (part 7)."""

from pathlib import Path

from tremor import job
from tremor.experiments import top_logits
from tremor.figures import divergence, save


def run(inputs, params, outputs):
    origin = job.provenance(inputs, params)
    table = top_logits.measure(
        job.listed(inputs.a),
        job.listed(inputs.b),
        inputs.document,
        params.settings,
        tokenizer=Path(params.directory),
        table=outputs.table,
        rows=outputs.rows,
        provenance=origin,
    )
    title = f"{params.wildcards.model}, {params.wildcards.pair}"
    figure = divergence.logits(table, pair=tuple(params.pair), title=title)
    save.save(figure, job.listed(outputs.figure), provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
