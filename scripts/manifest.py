"""Rule manifest: checksums and shape of a model; the file that all which uses the model depends on."""

from pathlib import Path

from tremor import job
from tremor.models import manifest
from tremor.store.documents import write_json


def run(inputs, params, outputs):
    alias = params.wildcards.model
    write_json(outputs.manifest, manifest.build(alias, params.entry, Path(params.directory)))


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
