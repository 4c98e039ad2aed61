"""Rule hub_model: fetch a model from the hub once; every later job runs offline."""

from tremor import job
from tremor.models import hub


def run(inputs, params, outputs):
    hub.fetch(params.entry["repo"], params.entry["revision"], outputs.config.parent)


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
