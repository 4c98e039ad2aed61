"""Selections from a file: the weights it names, or an error that names the file."""

import json

import pytest

from tremor.errors import ConfigError
from tremor.weights.listed import read_selection

DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def written(tmp_path):
    def write(document):
        path = tmp_path / "selection.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


def test_the_weights_it_names(loaded_model, written):
    entries = [{"tensor": DOWN, "flat_index": [7, 3]}, {"tensor": "model.norm.weight", "flat_index": [0]}]
    for document in ({"weights": entries}, {"selections": {"mine": {"weights": entries}, "other": {"weights": None}}}):
        population, chosen = read_selection(loaded_model("llama"), written(document), "mine")
        found = {edit.tensor: edit.flat_index.tolist() for edit in population.edits(chosen)}
        assert found == {DOWN: [3, 7], "model.norm.weight": [0]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not a complete JSON document"),
        ({"weights": []}, "lists no weights for the selection mine"),
        ({"selections": {"other": {}}}, "lists no weights for the selection mine"),
        ({"weights": [{"tensor": DOWN}]}, "an entry without tensor or indices"),
        ({"weights": [{"tensor": DOWN, "flat_index": [1.5]}]}, "an entry without tensor or indices"),
        ({"weights": [{"tensor": "nowhere", "flat_index": [1]}]}, "no tensor 'nowhere'"),
        ({"weights": [{"tensor": DOWN, "flat_index": [1, 1]}]}, "repeated or outside"),
        ({"weights": [{"tensor": DOWN, "flat_index": [10**6]}]}, "repeated or outside"),
    ],
)
def test_other_files_are_refused(loaded_model, written, document, message):
    with pytest.raises(ConfigError, match=message):
        read_selection(loaded_model("llama"), written(document), "mine")


def test_a_missing_file_is_named(loaded_model, tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.json does not exist; check its path"):
        read_selection(loaded_model("llama"), tmp_path / "nothing.json", "mine")
