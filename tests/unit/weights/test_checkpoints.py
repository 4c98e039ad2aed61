"""Pruned models as folders: loadable like any other, zero where they should be, equal to the bit elsewhere."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tremor.errors import ArtifactError
from tremor.models import manifest
from tremor.models.loader import load
from tremor.weights import mutate
from tremor.weights.checkpoints import save
from tremor.weights.mutate import Edit, mutated
from tremor.weights.population import gather
from tremor.weights.prune import n_of_m, unstructured
from tremor.weights.scores import score
from tremor.weights.select import select


@pytest.mark.parametrize(("family", "dtype"), [("llama", "float32"), ("gpt2", "bfloat16"), ("mamba", "float32")])
def test_a_pruned_model_is_a_model(private_model, saved_model, tmp_path, family, dtype):
    loaded = private_model(family, dtype)
    selection = select(loaded.anatomy, components=["o"])
    population = gather(selection, score("magnitude", loaded, selection=selection))
    edits = population.edits(n_of_m(population, 2, 4))
    ids = torch.tensor([[5, 9, 200]])
    folder = tmp_path / "pruned"
    with mutated(loaded, edits, mutate.zero), torch.no_grad():
        found = save(loaded, saved_model(family), folder, alias="tiny-pruned", zeros=edits)
        expected = loaded.model(input_ids=ids).logits
    manifest.verify(found, folder)
    assert manifest.read(folder / "manifest.json") == found
    again = load(folder, dtype=dtype, device="cpu")
    with torch.no_grad():
        assert torch.equal(again.model(input_ids=ids).logits, expected)
    assert again.tokenizer("Paris")["input_ids"] == loaded.tokenizer("Paris")["input_ids"]
    if dtype == "float32":  # the file itself, read without torch
        stored = load_file(folder / "model.safetensors")
        for edit in edits:
            array = stored[edit.tensor]
            assert np.count_nonzero(array == 0) == array.size // 2 == len(edit.flat_index)


def test_a_model_that_is_not_pruned_is_not_passed_off_as_one(private_model, saved_model, tmp_path):
    loaded = private_model("llama")
    name = loaded.anatomy.block_parts[0].down.parameter
    with pytest.raises(ArtifactError, match=r"2 pruned weights of .* are not zero"):
        save(loaded, saved_model("llama"), tmp_path / "x", alias="x", zeros=[Edit(name, torch.tensor([0, 1]))])


def test_pruning_a_pruned_model_again_changes_nothing_more(private_model):
    """Zeros have the least magnitude: they are chosen again, and reported as no change."""
    loaded = private_model("llama")
    selection = select(loaded.anatomy, components=["up"])

    def chosen():
        population = gather(selection, score("magnitude", loaded, selection=selection))
        return population.edits(unstructured(population, 0.4))

    first = chosen()
    # The second choice is made inside the first change.
    with mutated(loaded, first, mutate.zero), mutated(loaded, chosen(), mutate.zero, allow_unchanged=True) as record:
        assert record.changed == 0
        assert record.no_ops == record.requested == sum(len(edit.flat_index) for edit in first)
