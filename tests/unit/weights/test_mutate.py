"""Mutations are exact, counted and undone to the last bit: spec 7.3 test 1, defects B-D1, B-D15, B-D16, B-D17."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tremor.errors import ModelError, NumericsError
from tremor.weights import mutate
from tremor.weights.mutate import Edit, mutated

DOWN = "model.layers.1.mlp.down_proj.weight"
UP = "model.layers.0.mlp.up_proj.weight"


def state(loaded) -> str:
    """Digest over all parameters' bytes."""
    made = hashlib.sha256()
    for name, tensor in loaded.model.state_dict().items():
        made.update(name.encode() + tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return made.hexdigest()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_exactly_the_chosen_weights_change_and_every_bit_comes_back(loaded_model, dtype):
    loaded = loaded_model("llama", dtype)
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    digest = state(loaded)
    index = torch.tensor([0, 7, 100, 1535])
    with mutated(loaded, [Edit(DOWN, index), Edit(UP, index[:2])], mutate.zero) as record:
        assert (record.requested, record.changed, record.no_ops) == (6, 6, 0)
        for name, parameter in loaded.model.named_parameters():
            differs = (parameter != before[name]).reshape(-1).nonzero().flatten().tolist()
            assert differs == {DOWN: index.tolist(), UP: index[:2].tolist()}.get(name, [])
    assert state(loaded) == digest


def test_an_exception_inside_leaves_no_trace(loaded_model):
    loaded = loaded_model("llama")
    digest = state(loaded)
    seen = []

    def evaluate():
        seen.append(state(loaded))
        raise RuntimeError("evaluation failed")

    with pytest.raises(RuntimeError, match="evaluation"), mutated(loaded, [Edit(DOWN)], mutate.sign):
        evaluate()
    assert seen != [digest]
    assert state(loaded) == digest


def test_an_operation_that_fails_on_its_second_tensor_leaves_no_trace(loaded_model):
    loaded = loaded_model("llama")
    digest = state(loaded)

    def operation(values, target):
        if target.name == UP:
            raise ValueError("second tensor")
        return -values

    with pytest.raises(ValueError, match="second"), mutated(loaded, [Edit(DOWN), Edit(UP)], operation):
        pass
    assert state(loaded) == digest


def test_nested_mutations_are_undone_in_turn(loaded_model):
    loaded = loaded_model("llama")
    digest = state(loaded)
    with mutated(loaded, [Edit(DOWN)], mutate.scale(0.5)):
        half = state(loaded)
        with mutated(loaded, [Edit(DOWN, torch.arange(40))], mutate.zero):
            pass
        assert state(loaded) == half
    assert state(loaded) == digest


def test_a_mutation_that_changes_nothing_is_refused_and_weights_already_there_are_counted(loaded_model):
    loaded = loaded_model("llama")
    with pytest.raises(NumericsError, match="changed none"), mutated(loaded, [Edit(DOWN)], lambda v, t: v):
        pass
    with mutated(loaded, [Edit(DOWN, torch.arange(5))], mutate.zero):
        # Five of eight are zero already: they are told apart, not passed over.
        with mutated(loaded, [Edit(DOWN, torch.arange(8))], mutate.zero) as record:
            assert (record.requested, record.changed, record.no_ops) == (8, 3, 5)
        for allowed in (True, "zeros"):
            with mutated(loaded, [Edit(DOWN, torch.arange(5))], mutate.zero, allow_unchanged=allowed) as record:
                assert (record.changed, record.no_ops) == (0, 5)
        same = [Edit(DOWN, torch.arange(4, 9))]  # one zero and four that an idle operation should have changed
        idle = mutated(loaded, same, lambda v, t: v, allow_unchanged="zeros")
        with pytest.raises(NumericsError, match="changed none"), idle:
            pass


def test_minus_zero_is_a_change_and_comes_back(private_model):
    loaded = private_model("llama")
    parameter = loaded.anatomy.parameter(DOWN)
    with torch.no_grad():
        parameter.view(-1)[3] = -0.0
    with mutated(loaded, [Edit(DOWN, torch.tensor([3]))], mutate.zero) as record:
        assert record.changed == 1
    assert torch.signbit(parameter.view(-1)[3])


def test_a_nan_payload_is_restored(private_model):
    loaded = private_model("llama", "bfloat16")
    parameter = loaded.anatomy.parameter(DOWN)
    raw = parameter.detach().view(-1).view(torch.int16)
    raw[5] = 0x7FA5  # a signalling NaN with a payload
    with mutated(loaded, [Edit(DOWN, torch.arange(10))], mutate.zero):
        pass
    assert int(raw[5]) == 0x7FA5


@pytest.mark.parametrize(
    ("edits", "match"),
    [
        ([], "empty selection"),
        ([Edit(DOWN, torch.tensor([], dtype=torch.int64))], "no position"),
        ([Edit(DOWN, torch.tensor([1, 5, 1]))], "repeated"),
        ([Edit(DOWN, torch.tensor([1536]))], "index 1536 is outside"),
        ([Edit(DOWN, torch.tensor([-1]))], "index -1 is outside"),
        ([Edit(DOWN), Edit(DOWN)], "edited twice"),
        ([Edit("model.layers.9.nothing", torch.tensor([1]))], "no parameter"),
    ],
)
def test_wrong_edits_are_refused_before_anything_changes(loaded_model, edits, match):
    loaded = loaded_model("llama")
    digest = state(loaded)
    with pytest.raises(ModelError, match=match), mutated(loaded, edits, mutate.zero):
        pass
    assert state(loaded) == digest


def test_indices_are_whole_numbers():
    with pytest.raises(ModelError, match="whole numbers"):
        Edit(DOWN, torch.tensor([1.0]))


def test_both_names_of_a_tied_parameter_are_one(loaded_model):
    loaded = loaded_model("gpt2")
    names = [Edit("lm_head.weight", torch.tensor([1])), Edit("transformer.wte.weight", torch.tensor([2]))]
    with pytest.raises(ModelError, match="edited twice"), mutated(loaded, names, mutate.zero):
        pass
    with mutated(loaded, names[:1], mutate.zero):
        assert float(loaded.anatomy.embedding.weight.view(-1)[1]) == 0


def test_wrong_shapes_and_dtypes_of_an_operation_are_refused(loaded_model):
    loaded = loaded_model("llama")
    for wrong in (lambda v, t: v.double(), lambda v, t: v[:-1], lambda v, t: None):
        with pytest.raises(NumericsError, match="gave"), mutated(loaded, [Edit(DOWN)], wrong):
            pass


def test_operations_give_the_numbers_they_say(loaded_model):
    loaded = loaded_model("llama")
    index = torch.arange(64)
    w = loaded.anatomy.parameter(DOWN).detach().clone()
    old = w.view(-1)[index].numpy().astype(np.float64)
    whole = w.numpy().astype(np.float64)
    std = whole.std()
    expected = {
        "mean": (mutate.mean, np.full(64, np.float32(whole.mean()))),
        "sign": (mutate.sign, -old),
        "scale": (mutate.scale(1.2), (old * 1.2).astype(np.float32)),
        "set": (mutate.set_to(0.25), np.full(64, 0.25)),
        "list": (mutate.set_to([float(i) for i in range(64)]), np.arange(64.0)),
    }
    for name, (operation, values) in expected.items():
        with mutated(loaded, [Edit(DOWN, index)], operation):
            now = loaded.anatomy.parameter(DOWN).detach().view(-1)[index].numpy()
            assert np.array_equal(now, values.astype(np.float32)), name
    for make in (mutate.gaussian, mutate.uniform):
        noise = {}
        for unit, size in (("absolute", 1.0), ("weight", np.abs(old)), ("std", std)):
            with mutated(loaded, [Edit(DOWN, index)], make(0.1, relative_to=unit, seed=3)):
                now = loaded.anatomy.parameter(DOWN).detach().view(-1)[index].numpy().astype(np.float64)
            noise[unit] = (now - old) / size
        # The same draw in each unit; a float32 rounding of w + noise is at most 2^-24 of a value below 4.
        assert np.allclose(noise["weight"] * np.abs(old), noise["absolute"] * np.abs(old), atol=5e-7)
        assert np.allclose(noise["std"], noise["absolute"], atol=5e-7 / std)
        assert 0.05 < noise["absolute"].std() < 0.15


def test_noise_has_the_size_it_is_asked_for_and_repeats(loaded_model):
    loaded = loaded_model("llama")
    w = loaded.anatomy.parameter(DOWN).detach().clone()
    seen = []
    for seed in (1, 1, 2):
        with mutated(loaded, [Edit(DOWN)], mutate.gaussian(0.5, relative_to="std", seed=seed)):
            seen.append(loaded.anatomy.parameter(DOWN).detach().clone())
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    # 1536 normal draws: their standard deviation is within 4 / sqrt(2 * 1536) = 7 % of the truth (4 sigma).
    assert float((seen[0] - w).std() / w.std()) == pytest.approx(0.5, rel=0.08)


def test_rows_of_a_ranking_become_one_edit_for_each_tensor():
    edits = mutate.edits_at(["a", "b", "a"], [3, 1, 2])
    assert [(e.tensor, e.flat_index.tolist()) for e in edits] == [("a", [3, 2]), ("b", [1])]


@given(st.lists(st.integers(0, 1535), min_size=1, max_size=60, unique=True), st.sampled_from(["float32", "bfloat16"]))
def test_any_selection_is_restored_bit_for_bit(loaded_model, index, dtype):
    loaded = loaded_model("llama", dtype)
    parameter = loaded.anatomy.parameter(DOWN)
    before = mutate.bits_of(parameter.detach()).clone()
    with mutated(loaded, [Edit(DOWN, torch.tensor(index))], mutate.sign) as record:
        assert record.changed == len(index)
        assert int((mutate.bits_of(parameter.detach()) != before).sum()) == len(index)
    assert torch.equal(mutate.bits_of(parameter.detach()), before)
