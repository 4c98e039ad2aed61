"""Rule exp4_angles: angles between final states and unembedding vectors, by rank (part 7)."""

from tremor import job
from tremor.experiments import angles
from tremor.figures import angles as figures
from tremor.figures import save


def run(inputs, params, outputs):
    origin = job.provenance(inputs, params)
    table = angles.measure(
        job.listed(inputs.recordings),
        inputs.unembedding,
        params.settings,
        data=outputs.data,
        table=outputs.table,
        statistics=outputs.statistics,
        provenance=origin,
    )
    title = f"{params.wildcards.model}, {params.wildcards.platform}"
    drawn = {
        "angles": figures.angles(table, bins=params.settings["bins"], title=title),
        "histograms": figures.histograms(table, bins=params.settings["bins"], title=title),
        "questions": figures.questions(table, title=title),
    }
    for name, figure in drawn.items():
        save.save(figure, job.listed(getattr(outputs, name)), provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
