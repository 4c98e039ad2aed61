"""Rule delta_tracing_figures: where a state that is put back brings the answer back."""

from tremor import job
from tremor.figures import save, tracing
from tremor.store.tables import read_csv, table_provenance


def run(inputs, params, outputs):
    traces = dict(zip(params.models, (read_csv(path) for path in job.listed(inputs.tables)), strict=True))
    drawn = {"roles": tracing.roles(read_csv(inputs.summary)), "example": tracing.example(traces)}
    for name, figure in drawn.items():
        origin = table_provenance(inputs.summary)
        save.save(figure, job.listed(getattr(outputs, name)), provenance=origin, dpi=params.figures["dpi"])


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
