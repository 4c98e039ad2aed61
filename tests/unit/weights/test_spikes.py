"""Planted super weights are found, the search stops after them, and no bit of the model is left changed."""

import pytest
import torch

from families import tiny
from tremor.errors import ConfigError
from tremor.models.anatomy import describe
from tremor.weights.spikes import find, peaks, watched


class Loaded:
    """As much of a loaded model as the search uses."""

    def __init__(self, family, **settings):
        self.model = tiny(family, **settings)
        self.anatomy = describe(self.model)
        self.device = torch.device("cpu")


def prompts(count=4):
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(2, 300, (9,), generator=generator) for _ in range(count)]
    return texts + [torch.cat([torch.tensor([0]), text]) for text in texts]


def plant(loaded, block, rows, column, size=3.0):
    """Make one hidden neuron of an MLP loud, and let it reach the stream through the given rows alone."""
    parts = loaded.anatomy.block_parts[block]
    with torch.no_grad():
        for name in ("gate", "up"):
            part = getattr(parts, name)
            if part is not None:
                weight = part.take(loaded.model.get_parameter(part.parameter))
                line = weight[:, column] if part.axis == 1 else weight[column]
                line *= 60
        down = parts.down.take(loaded.model.get_parameter(parts.down.parameter))
        transposed = parts.down.parameter in loaded.anatomy.transposed
        line = down[column] if transposed else down[:, column]
        line *= 1e-4  # the loud neuron must not shout through other rows
        for order, row in enumerate(rows):
            line[row] = size * (0.6**order)


@pytest.mark.parametrize("scale", ["relative", "absolute"])
def test_a_planted_super_weight_is_found_and_the_search_stops(scale):
    loaded = Loaded("llama", layers=4)
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    threshold = 50.0
    none, _ = find(loaded, prompts(), threshold=threshold, scale=scale)
    assert none == []
    plant(loaded, 1, [13], 29)
    before["model.layers.1.mlp.down_proj.weight"] = loaded.model.model.layers[1].mlp.down_proj.weight.clone()
    found, trace = find(loaded, prompts(), threshold=threshold, scale=scale)
    assert [(w.block, w.row, w.column, w.order) for w in found] == [(1, 13, 29, 1)]
    (weight,) = found
    assert weight.tensor == "model.layers.1.mlp.down_proj.weight"
    assert weight.flat_index == 13 * 48 + 29
    assert weight.weight == 3.0
    assert weight.votes == weight.prompts == 8
    # It makes the spike nearly alone: the rest of its row adds numbers of order one.
    assert weight.share == pytest.approx(1, abs=0.05)
    assert len(trace) == 8
    assert len(trace[0]) == 4
    down = loaded.model.model.layers[1].mlp.down_proj.weight
    assert torch.equal(down, before["model.layers.1.mlp.down_proj.weight"])


def test_several_rows_of_one_column_are_found_one_after_the_other():
    """As in Llama-3-8B, whose block 1 has three in column 2427."""
    loaded = Loaded("llama", layers=4)
    plant(loaded, 1, [13, 4, 30], 29)
    found, _ = find(loaded, prompts(), scale="relative")
    assert [(w.block, w.row, w.column) for w in found] == [(1, 13, 29), (1, 4, 29), (1, 30, 29)]
    assert [w.order for w in found] == [1, 2, 3]
    assert len(find(loaded, prompts(), scale="relative", most=2)[0]) == 2


def test_transposed_weights_have_their_own_flat_index():
    loaded = Loaded("gpt2", layers=3)
    plant(loaded, 1, [7], 100)
    found, _ = find(loaded, prompts(), scale="relative")
    assert [(w.block, w.row, w.column) for w in found] == [(1, 7, 100)]
    parameter = loaded.model.get_parameter(found[0].tensor)
    assert parameter.shape == (128, 32)
    assert parameter.reshape(-1)[found[0].flat_index].item() == parameter[100, 7].item() == 3.0


def test_a_block_that_removes_the_spike_is_not_its_origin():
    """The last blocks of real models cancel the massive activation: they spike too, and must not be named."""
    loaded = Loaded("llama", layers=4)
    plant(loaded, 1, [13], 29)
    plant(loaded, 3, [13], 29, size=-3.0)
    trace = peaks(loaded, prompts()[0])
    assert trace[1].spikes(50, "relative")
    assert trace[1].originates()
    found, _ = find(loaded, prompts(), scale="relative")
    assert (found[0].block, found[0].row, found[0].column) == (1, 13, 29)


def test_a_spike_of_one_prompt_alone_is_no_super_weight():
    loaded = Loaded("llama", layers=4)
    plant(loaded, 1, [13], 29)
    quiet = Loaded("llama", layers=4)
    assert find(quiet, prompts(), scale="relative")[0] == []
    spiky = find(loaded, prompts(1)[:1], scale="relative", agreement=1.0)[0]
    assert spiky[0].votes == 1
    # With a share of prompts that cannot be reached nothing is named, though every prompt spikes somewhere.
    assert find(loaded, prompts(), scale="absolute", threshold=1e9)[0] == []


def test_mamba_is_watched_at_what_writes_into_its_stream():
    loaded = Loaded("mamba", layers=2)
    assert [point.tensor for point in watched(loaded.anatomy)] == [
        f"backbone.layers.{k}.mixer.out_proj.weight" for k in range(2)
    ]
    (first, _) = peaks(loaded, prompts()[0])
    assert first.block == 0
    assert first.input_scale > 0
    assert find(loaded, prompts(), scale="relative")[0] == []


def test_no_prompt_is_an_error():
    with pytest.raises(ConfigError, match="at least one prompt"):
        find(Loaded("llama"), [])
