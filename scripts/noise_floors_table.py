"""Rule noise_floors_table: the summary as a table of Markdown, for a page."""

from tremor import job
from tremor.experiments import floor_page
from tremor.store.atomic import write_bytes
from tremor.store.tables import read_csv


def run(inputs, params, outputs):
    write_bytes(outputs.table, floor_page.markdown(read_csv(inputs.table)).encode())


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
