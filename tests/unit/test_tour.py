"""docs/notebooks/tour.ipynb, run from top to bottom on a tiny random model."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "docs/notebooks/tour.ipynb"


@pytest.mark.slow
def test_the_tour_runs_and_shows_its_pictures(saved_model) -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    client = NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": TOUR.parent}})
    environment = {
        **os.environ,
        "TREMOR_TOUR_MODEL": str(saved_model("llama")),
        "PYTHONPATH": str(ROOT / "workflow"),
        "OMP_NUM_THREADS": "1",
        "IPYTHONDIR": str(saved_model("llama").parent / "ipython"),
    }
    client.execute(env=environment)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    # Bars of long work are fine.
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stderr")
    assert "arning" not in said
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4
    tables = [output for output in outputs if "text/html" in output.get("data", {})]
    assert len(tables) == 5


def test_the_tour_is_kept_without_outputs_and_in_short_cells() -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
            assert len(cell.source.splitlines()) <= 6
