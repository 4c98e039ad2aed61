"""Ablation at named taps: the arithmetic of every mode, every family, hooks that fire and come off."""

import pytest
import torch

from families import FAMILIES
from tremor.errors import ModelError, NumericsError
from tremor.weights.activations import MODES, Reference, ablated, ablation, intervened

IDS = torch.tensor([[0, 5, 9, 40, 41, 7], [0, 300, 2, 2, 8, 90]])
TENSOR = torch.arange(24.0).reshape(2, 3, 4) - 11.0
REFERENCE = Reference(
    mean=torch.tensor([1.0, 2.0, 3.0, 4.0]),
    std=torch.tensor([0.5, 1.0, 2.0, 4.0]),
    sample=torch.tensor([[10.0, 20.0, 30.0, 40.0], [11.0, 21.0, 31.0, 41.0]]),
)


def logits(loaded):
    with torch.no_grad():
        return loaded.model(input_ids=IDS, use_cache=False).logits


def test_modes_by_hand():
    def changed(mode, **options):
        new = ablation("tap", [1, 3], mode=mode, reference=REFERENCE, **options)(TENSOR)
        assert torch.equal(new[..., [0, 2]], TENSOR[..., [0, 2]])  # what is not named stays, bit for bit
        return new[..., [1, 3]]

    assert torch.equal(changed("zero"), torch.zeros(2, 3, 2))
    assert torch.equal(changed("mean"), REFERENCE.mean[[1, 3]].expand(2, 3, 2))
    assert torch.equal(changed("scale", strength=3.0), 3.0 * TENSOR[..., [1, 3]])
    drawn = changed("resample", seed=1)
    # Both units come from one token: the second is that of the first, twenty higher.
    assert torch.equal(drawn[..., 1], drawn[..., 0] + 20.0)
    assert set(drawn[..., 0].flatten().tolist()) == {20.0, 21.0}


def test_noise_has_the_units_own_scale_and_is_seeded():
    wide = torch.zeros(50, 400, 4)
    change = ablation("tap", [0, 3], mode="noise", strength=0.5, reference=REFERENCE, seed=3)(wide)
    # 20 000 draws: the standard error of a standard deviation is 0.5 %, so 3 % is six of them.
    assert change[..., 0].std() == pytest.approx(0.5 * 0.5, rel=0.03)
    assert change[..., 3].std() == pytest.approx(0.5 * 4.0, rel=0.03)
    again = ablation("tap", [0, 3], mode="noise", strength=0.5, reference=REFERENCE, seed=3)(wide)
    assert torch.equal(change, again)
    plain = ablation("tap", [0], mode="noise", strength=2.0, seed=3)(wide)
    assert plain[..., 0].std() == pytest.approx(2.0, rel=0.03)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_at_every_kind_of_tap(family, loaded_model):
    """Tensor and tuple outputs, inputs and outputs: what the model goes on with is what was asked for."""
    loaded = loaded_model(family)
    clean = logits(loaded)
    parts = loaded.anatomy.block_parts[1]
    taps = ["block.1.output", "block.1.mixer", "block.1.mixer.input", "residual.1"]
    taps += ["block.1.mlp", "block.1.mlp.input"] if "mlp" in parts.taps else []
    for tap in taps:
        same = {}
        with intervened(loaded.anatomy, {tap: lambda t, same=same: same.setdefault("t", t).clone()}) as fired:
            assert torch.equal(logits(loaded), clean), tap
        assert fired[tap] == 1
        assert same["t"].shape == (*IDS.shape, loaded.anatomy.d_model)
        with ablated(loaded, tap, [2, 5]):
            changed = logits(loaded)
        assert not torch.equal(changed, clean), tap
        assert torch.equal(logits(loaded), clean)  # the hooks are gone


@pytest.mark.parametrize("family", ["gpt2", "mamba", "llama"])
def test_a_block_outputs_ablation_is_seen_by_what_follows(family, loaded_model):
    loaded = loaded_model(family)
    with ablated(loaded, "block.0.output", [3, 4]), loaded.anatomy.record(["residual.1"]) as seen:
        logits(loaded)
    assert torch.equal(seen["residual.1"][..., [3, 4]], torch.zeros(2, 6, 2))
    assert bool((seen["residual.1"][..., 5] != 0).all())


def test_what_is_wrong_is_refused(loaded_model):
    loaded = loaded_model("gpt2")
    clean = logits(loaded)
    with pytest.raises(ModelError, match="does not exist"), ablated(loaded, "block.9.output", [0]):
        pass
    with pytest.raises(ModelError, match="does not exist"), ablated(loaded, "block.0.nothing", [0]):
        pass
    with pytest.raises(NumericsError, match="unit 99 does not exist"), ablated(loaded, "block.0.output", [99]):
        logits(loaded)
    with pytest.raises(NumericsError, match="not reached"), ablated(loaded, "block.0.output", [0]):
        pass
    assert torch.equal(logits(loaded), clean)
    for units in ([], [1, 1], [-1]):
        with pytest.raises(NumericsError, match="distinct units"):
            ablation("tap", units)
    for mode in ("mean", "resample"):
        with pytest.raises(NumericsError, match="needs a reference"):
            ablation("tap", [0], mode=mode)
    with pytest.raises(NumericsError, match="unknown"):
        ablation("tap", [0], mode="remove")  # type: ignore[arg-type]
    assert set(MODES) == {"zero", "mean", "resample", "noise", "scale"}
