"""Attacks by bit flips: estimates against trying every bit, rules that hold, and a model that comes back."""

import numpy as np
import pytest
import torch

from tremor.errors import ConfigError
from tremor.evaluate import nll
from tremor.experiments import esa_shared
from tremor.experiments.esa_bit_attack import _Target
from tremor.weights import bits, bitsearch
from tremor.weights.mutate import bits_of
from tremor.weights.select import select

RULES = ("free", "in_range", "int8")


@pytest.fixture(scope="module")
def loaded(loaded_model):
    return loaded_model("llama")


@pytest.fixture(scope="module")
def target(loaded):
    held = nll.tokenise(loaded, esa_shared.passages("heldout", 2))
    selection = select(loaded.anatomy, layers=[0], components=["k"])
    return _Target(loaded, esa_shared.passages("calibration", 2), held, selection, 4)


def stored(loaded):
    return {name: bits_of(p.detach()).clone() for name, p in loaded.model.named_parameters()}


def test_the_gradient_is_that_of_the_attacked_loss(target, loaded):
    (name, gradient), *_ = target.gradients().items()
    parameter = loaded.model.get_parameter(name)
    place = int(gradient.abs().argmax())
    old, step = float(parameter.reshape(-1)[place]), 0.02
    losses = []
    for value in (old + step, old - step):
        parameter.data.view(-1)[place] = value
        losses.append(target.loss())
    parameter.data.view(-1)[place] = old
    # Central difference of float32 logits: 1e-7 / 0.02, and the third derivative.
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(float(gradient.reshape(-1)[place]), rel=0.05, abs=1e-5)


def test_the_candidate_is_the_best_bit_of_all(target, loaded):
    """With a pool of all weights: g (w' - w) of every bit of every weight, one tensor, by a plain loop over bits."""
    gradients = target.gradients()
    ((name, parameter),) = target.selection.parameters()
    with bitsearch.memory_of(loaded, target.selection, "in_range") as memory:
        (flip,) = bitsearch.candidates(loaded, target.selection, memory, gradients, pool=parameter.numel(), count=5)
    weights, slope = parameter.detach().reshape(-1).numpy(), gradients[name].reshape(-1).double().numpy()
    best = -np.inf
    for bit in range(32):
        new = (weights.view(np.uint32) ^ np.uint32(1 << bit)).view(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            gain = slope * (new.astype(np.float64) - weights)
        best = max(best, gain[np.isfinite(new) & (np.abs(new) <= np.abs(weights).max())].max(initial=-np.inf))
    assert flip.estimate == pytest.approx(best, rel=1e-6)
    assert flip.new == float(bits.flipped(parameter.detach().reshape(-1)[flip.flat_index], flip.bit))


@pytest.mark.parametrize("rule", RULES)
def test_a_search_hurts_more_than_random_flips_and_leaves_no_trace(target, loaded, rule):
    before = stored(loaded)
    selection = select(loaded.anatomy, components=["mixer", "mlp"])
    wide = _Target(loaded, esa_shared.passages("calibration", 2), target.held, selection, 4)
    largest = {name: float(p.detach().abs().max()) for name, p in selection.parameters()}
    with bitsearch.memory_of(loaded, selection, rule) as memory:
        start = wide.loss()
        found = list(
            bitsearch.search(
                loaded, selection, memory, gradients=wide.gradients, loss=wide.loss, flips=3, pool=100, count=4,
                collapse=1e9,
            )
        )  # fmt: skip
    losses = [np.inf if np.isnan(loss) else loss for _, loss in found]
    assert losses == sorted(losses)  # every flip does harm
    assert losses[0] > start
    with bitsearch.memory_of(loaded, selection, rule) as memory:
        random = bitsearch.random_flips(selection, memory, 3, np.random.default_rng(0))
        with bitsearch.flipped(loaded, random[0]), bitsearch.flipped(loaded, random[1]):
            assert losses[-1] > wide.loss()
    assert len({(flip.tensor, flip.flat_index) for flip in random}) == 3
    for flip in [flip for flip, _ in found] + random:
        assert np.isfinite(flip.new)
        if rule == "in_range":
            assert abs(flip.new) <= largest[flip.tensor]
        if rule == "int8":
            assert 0 <= flip.bit < 8
    now = stored(loaded)
    assert all(torch.equal(before[name], now[name]) for name in before)


def test_codes_are_twos_complement_and_their_scale_stays(loaded):
    """Also where the flip gives -128, which the quantiser itself never writes."""
    selection = select(loaded.anatomy, layers=[0], components=["down"])
    ((name, parameter),) = selection.parameters()
    with bitsearch.memory_of(loaded, selection, "int8") as memory:
        scale = memory._scales[name][0]
        code = int(memory._codes[name][0])
        for bit in range(8):
            raw = (code % 256) ^ (1 << bit)
            expected = np.float32((raw - 256 if raw > 127 else raw) * float(scale))
            assert float(memory.after(name, torch.tensor([0]), bit)) == expected
        memory.commit(name, 0, 7)
        memory.commit(name, 0, 7)
        assert int(memory._codes[name][0]) == code
    assert parameter.is_contiguous()


def test_same_bits_are_the_same_bits(loaded):
    selection = select(loaded.anatomy, components=["q"])
    with bitsearch.memory_of(loaded, selection, "free") as memory:
        like = bitsearch.random_flips(selection, memory, 6, np.random.default_rng(1))
        again = bitsearch.random_flips(selection, memory, 6, np.random.default_rng(2), like=like)
    assert [flip.bit for flip in again] == [flip.bit for flip in like]
    assert [flip.flat_index for flip in again] != [flip.flat_index for flip in like]


def test_an_unknown_rule_is_refused(loaded):
    with pytest.raises(ConfigError, match="no rule"), bitsearch.memory_of(loaded, select(loaded.anatomy), "loud"):
        pass
