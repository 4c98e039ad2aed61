"""The inside of Mamba's scan: true step sizes, unchanged bits, changes that arrive, refusals."""

import pytest
import torch
from torch.nn import functional as F
from transformers.models.mamba import modeling_mamba

from tremor.errors import ModelError, NumericsError
from tremor.models import ssm
from tremor.weights.activations import intervened

IDS = torch.tensor([[0, 5, 9, 40, 41, 7], [0, 300, 2, 2, 8, 90]])


def logits(loaded):
    with torch.no_grad():
        return loaded.model(input_ids=IDS, use_cache=False).logits


def recorded(loaded, *names):
    found = {}
    taps = {name: lambda t, name=name: found.setdefault(name, t) for name in names}
    with intervened(loaded.anatomy, taps):
        found["logits"] = logits(loaded)
    return found


def test_delta_is_the_softplus_of_dt_proj_and_not_the_mixers_output(loaded_model):
    """D-D1: the original took the mixer's output for delta. Here each part is computed by hand from `x_proj`."""
    loaded = loaded_model("mamba")
    mixer = loaded.anatomy.block_parts[1].mixer
    seen = {}
    handle = mixer.x_proj.register_forward_hook(lambda m, a, out: seen.setdefault("x", out))
    gate = mixer.in_proj.register_forward_hook(lambda m, a, out: seen.setdefault("in", out))
    found = recorded(loaded, *(f"block.1.ssm.{n}" for n in ssm.NAMES))
    handle.remove()
    gate.remove()
    rank, states = mixer.time_step_rank, mixer.ssm_state_size
    step, b, c = seen["x"].split([rank, states, states], dim=-1)
    # The same few products in another order: a few ulps.
    delta = F.softplus(mixer.dt_proj(step))
    torch.testing.assert_close(found["block.1.ssm.delta"], delta, rtol=1e-5, atol=1e-6)
    assert found["block.1.ssm.delta"].shape[-1] == mixer.intermediate_size  # the inner width, not d_model
    assert torch.equal(found["block.1.ssm.B"], b)
    assert torch.equal(found["block.1.ssm.C"], c)
    assert torch.equal(found["block.1.ssm.gate"], seen["in"].chunk(2, dim=-1)[1])


def test_the_state_decay_is_that_of_the_recurrence(loaded_model):
    """One step of h_t = exp(delta A) h_(t-1), by hand for one channel."""
    mixer = loaded_model("mamba").anatomy.block_parts[0].mixer
    delta = torch.rand(1, 3, mixer.intermediate_size)
    rates = -mixer.A_log.detach().double().exp()
    by_hand = torch.stack([(delta[0, 2, 4].double() * rates[4, n]).exp() for n in range(rates.shape[1])]).mean()
    # float32 exponentials against float64 ones: 1e-6 is some ten of its roundings.
    assert float(ssm.decay(mixer, delta)[0, 2, 4]) == pytest.approx(float(by_hand), rel=1e-6)


def test_a_scan_against_a_hand_written_recurrence(loaded_model):
    """The mixer's own answer follows from the values that are handed out: nothing else goes into the scan."""
    loaded = loaded_model("mamba")
    mixer = loaded.anatomy.block_parts[0].mixer
    seen = {}
    handle = mixer.x_proj.register_forward_pre_hook(lambda m, a: seen.setdefault("u", a[0]))
    out = mixer.out_proj.register_forward_pre_hook(lambda m, a: seen.setdefault("y", a[0]))
    found = recorded(loaded, *(f"block.0.ssm.{n}" for n in ssm.NAMES))
    handle.remove()
    out.remove()
    delta, b, c, gate = (found[f"block.0.ssm.{n}"][0].double() for n in ssm.NAMES)
    u, a = seen["u"][0].double(), -mixer.A_log.detach().double().exp()
    state, outputs = torch.zeros_like(a), []
    for t in range(len(u)):
        state = (delta[t][:, None] * a).exp() * state + delta[t][:, None] * b[t][None] * u[t][:, None]
        outputs.append((state @ c[t] + mixer.D.double() * u[t]) * F.silu(gate[t]))
    # Six steps of float32 sums of four states: about 1e-6 of the values.
    torch.testing.assert_close(seen["y"][0].double(), torch.stack(outputs), rtol=1e-4, atol=1e-5)


def test_reading_changes_no_bit_and_the_function_comes_back(loaded_model):
    loaded = loaded_model("mamba")
    before, reference = logits(loaded), modeling_mamba.mamba_selective_scan
    assert torch.equal(recorded(loaded, "block.0.ssm.delta", "block.1.ssm.C")["logits"], before)
    assert modeling_mamba.mamba_selective_scan is reference
    with pytest.raises(RuntimeError, match="stop"), intervened(loaded.anatomy, {"block.0.ssm.delta": _stop}):
        logits(loaded)
    assert modeling_mamba.mamba_selective_scan is reference
    assert torch.equal(logits(loaded), before)


def _stop(tensor):
    raise RuntimeError("stop")


def test_a_change_reaches_its_own_block_only(loaded_model):
    loaded = loaded_model("mamba")
    blocks = {}

    def at(name):
        return lambda t: blocks.setdefault(name, t)

    with intervened(loaded.anatomy, {"block.0.output": at("a0"), "block.1.output": at("a1")}):
        logits(loaded)
    zero = {"block.1.ssm.delta": torch.zeros_like, "block.0.output": at("b0"), "block.1.output": at("b1")}
    with intervened(loaded.anatomy, zero):
        logits(loaded)
    assert torch.equal(blocks["a0"], blocks["b0"])
    assert not torch.equal(blocks["a1"], blocks["b1"])


@pytest.mark.parametrize("family", ["gpt2", "mamba2"])
def test_models_without_a_step_size_refuse(family, loaded_model):
    with (
        pytest.raises(ModelError, match="no step size delta"),
        intervened(loaded_model(family).anatomy, {"block.0.ssm.delta": torch.zeros_like}),
    ):
        pass


def test_a_scan_that_is_never_reached_is_an_error(loaded_model):
    loaded = loaded_model("mamba")
    with (
        pytest.raises(NumericsError, match="not reached"),
        intervened(loaded.anatomy, {"block.0.ssm.delta": torch.zeros_like}),
    ):
        pass
