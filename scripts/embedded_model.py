"""Rule embedded_model: train one of the small models that come with the workflow."""

from tremor import job
from tremor.models import embedded
from tremor.store.atomic import disk_errors


def run(inputs, params, outputs):
    with disk_errors(outputs.weights):
        embedded.train(
            params.architecture,
            outputs.weights.parent,
            seed=params.training["seed"],
            threads=params.training["threads"],
            min_recall=params.training["min_recall"],
        )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
