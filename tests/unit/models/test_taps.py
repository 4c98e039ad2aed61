"""Recording taps: filled by the next forward, gone afterwards, loud when a tap is not reached."""

import pytest
import torch
from torch import nn

from families import WIDTH, tiny
from tremor.errors import NumericsError
from tremor.models import taps
from tremor.models.anatomy import Anatomy, describe

IDS = torch.tensor([[5, 9, 200]])


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    """A tiny Llama."""
    return describe(tiny("llama"))


def count(model: nn.Module) -> int:
    """Number of forward hooks in a model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_are_removed_after_an_exception(anatomy: Anatomy) -> None:
    before = count(anatomy.model)
    during = []

    def fail() -> None:
        with anatomy.record(["final", "embedding", "residual.1"]):
            during.append(count(anatomy.model))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert during[0] > before
    assert count(anatomy.model) == before


def test_a_tap_that_does_not_fire_is_an_error(anatomy: Anatomy) -> None:
    with (
        pytest.raises(NumericsError, match=r"not reached by the forward: residual\.1, final;"),
        anatomy.record(["embedding", "residual.1", "final"]),
    ):
        anatomy.embed(IDS)
    assert count(anatomy.model) == 0


def test_a_skipped_module_is_an_error() -> None:
    model = tiny("gpt2")
    anatomy = describe(model)
    # A fused kernel would do this: compute the block without calling the module.
    model.transformer.h[1].mlp.forward = lambda hidden: hidden
    expected = pytest.raises(NumericsError, match=r"block\.1\.mlp\.c_fc")
    with expected, anatomy.record(["block.1.mlp.c_fc"]), torch.no_grad():
        model(IDS)


def test_values_are_copies_that_later_work_cannot_change() -> None:
    """Falcon adds the attention into the MLP's output in place, after the hook has seen it."""
    model = tiny("falcon")
    anatomy = describe(model)
    with torch.no_grad(), anatomy.record(["block.0.mlp.input", "block.0.mlp"]) as values:
        model(IDS)
    with torch.no_grad():
        expected = model.transformer.h[0].mlp(values["block.0.mlp.input"])
    assert torch.equal(values["block.0.mlp"], expected)


def test_gradients_flow_only_on_request(anatomy: Anatomy) -> None:
    embeds = anatomy.embed(IDS).detach().requires_grad_()
    with anatomy.record(["final"], detach=False) as values:
        anatomy.model(inputs_embeds=embeds)
    (gradient,) = torch.autograd.grad(values["final"].sum(), embeds)
    assert gradient.shape == embeds.shape
    assert float(gradient.abs().max()) > 0
    with anatomy.record(["final"]) as values:
        anatomy.model(inputs_embeds=embeds)
    assert not values["final"].requires_grad


def test_recordings_nest_and_the_last_forward_counts(anatomy: Anatomy) -> None:
    with torch.no_grad(), anatomy.record(["residual.0"]) as outer:
        anatomy.model(IDS)
        with anatomy.record(["residual.0"]) as inner:
            anatomy.model(IDS + 1)
    assert torch.equal(outer["residual.0"], inner["residual.0"])
    assert outer["residual.0"].data_ptr() != inner["residual.0"].data_ptr()
    assert count(anatomy.model) == 0


def test_flattened_positions_get_their_batch_back() -> None:
    """OPT reshapes to [batch * positions, width] before its MLP."""
    anatomy = describe(tiny("opt"))
    with torch.no_grad(), anatomy.record(["block.0.mlp", "block.0.mid", "residual.0"]) as values:
        anatomy.model(IDS.repeat(2, 1))
    assert {tuple(v.shape) for v in values.values()} == {(2, 3, WIDTH)}


def test_one_row_of_the_cache_path_is_recorded(anatomy: Anatomy) -> None:
    """Taps work on a forward with a cache and one new position."""
    with torch.no_grad():
        cache = anatomy.model(IDS, use_cache=True).past_key_values
        with anatomy.record(["residual.2", "final"]) as values:
            anatomy.model(IDS[:, :1], past_key_values=cache)
    assert {tuple(v.shape) for v in values.values()} == {(1, 1, WIDTH)}


def test_names_are_looked_up_once_each() -> None:
    point = taps.TapPoint(nn.Identity(), "output")
    assert list(taps.resolve({"a": point, "b": point}, ["b", "a", "b"])) == ["b", "a"]
