"""Resuming behind a block: the bits of the whole forward for every family and attention, and no hook left behind."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from families import FAMILIES, tiny
from tremor.errors import ModelError, NumericsError
from tremor.models.anatomy import Anatomy, describe
from tremor.models.anatomy_trace import first_output
from tremor.neurons.resume import Resume

IDS = torch.tensor([[5, 9, 100, 33, 7, 250, 12], [8, 1, 77, 3, 90, 2, 41]])
# Families with attention that transformers has both kernels for; the rest has one, which `tiny` builds anyway.
BOTH = ("llama", "mistral", "mixtral", "gpt2", "gpt_neox", "opt", "qwen2", "qwen3", "phi", "olmo2", "falcon", "gptj")


def anatomy(family: str, **settings: Any) -> Anatomy:
    return describe(tiny(family, **settings).requires_grad_(False))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_resumes_behind_every_block_bit_for_bit(family: str) -> None:
    found = anatomy(family)
    recorded = Resume(found, IDS)
    recorded.check()
    assert list(recorded.states) == list(range(found.n_layers))
    with torch.no_grad():
        whole = found.model(input_ids=IDS, use_cache=False).logits
    assert torch.equal(recorded(0, recorded.states[0]).detach(), whole)


@pytest.mark.parametrize("family", BOTH)
def test_eager_attention_keeps_its_mask(family: str) -> None:
    """Blocks called without a mask are causal under sdpa and not causal under eager attention (D-D14)."""
    found = anatomy(family, attn_implementation="eager")
    assert found.model.config._attn_implementation == "eager"
    Resume(found, IDS).check()


def test_a_lost_mask_would_be_seen() -> None:
    """The original calls GPT-2's eager blocks with the hidden state alone; that is another function."""
    found = anatomy("gpt2", attn_implementation="eager")
    recorded = Resume(found, IDS)
    with torch.no_grad():
        hidden = recorded.states[0]
        for block in list(found.blocks)[1:]:
            hidden = first_output(block(hidden))
        lost = found.unembed(found.normalise(hidden))
    # Positions see their future: an error of the order of the logits, not of rounding.
    assert float((lost - recorded.logits).abs().max()) > 0.01


@pytest.mark.parametrize("family", ["gpt2", "mamba", "rwkv", "gemma2"])
def test_a_changed_state_goes_on_as_in_the_model_s_own_forward(family: str) -> None:
    """Against the model's own forward with a hook that puts the changed state in the block's place."""
    found = anatomy(family)
    recorded = Resume(found, IDS)
    changed = recorded.states[1] + torch.randn(recorded.states[1].shape, generator=torch.Generator().manual_seed(0))
    fired = 0

    def replace(module: nn.Module, args: Any, output: Any) -> Any:
        nonlocal fired
        fired += 1
        return changed if isinstance(output, torch.Tensor) else (changed, *output[1:])

    handle = found.blocks[1].register_forward_hook(replace)
    with torch.no_grad():
        whole = found.model(input_ids=IDS, use_cache=False).logits
        handle.remove()
        assert fired == 1
        assert torch.equal(recorded(1, changed), whole)
        assert not torch.equal(whole, recorded.logits)


def test_edits_reach_every_later_block() -> None:
    recorded = Resume(anatomy("llama"), IDS)
    seen: list[int] = []

    def note(block: int, hidden: torch.Tensor) -> torch.Tensor:
        seen.append(block)
        assert torch.equal(hidden, recorded.states[block])
        return hidden

    with torch.no_grad():
        recorded(0, recorded.states[0], edit=note)
    assert seen == [0, 1, 2]


def test_no_hook_stays_behind() -> None:
    found = anatomy("llama")
    Resume(found, IDS)
    for module in found.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_state_of_another_shape_is_refused() -> None:
    recorded = Resume(anatomy("llama"), IDS)
    with pytest.raises(ValueError, match=r"shape \(1, 7, 32\)"):
        recorded(0, recorded.states[0][:1])


def test_a_block_that_runs_twice_is_refused() -> None:
    found = anatomy("llama")
    first = found.blocks[0]
    forward = first.forward

    def twice(*args: Any, **kwargs: Any) -> Any:
        first.forward = forward  # type: ignore[method-assign]
        first(*args, **kwargs)
        return forward(*args, **kwargs)

    first.forward = twice  # type: ignore[method-assign]
    with pytest.raises(NumericsError, match=r"block\(s\) 0 were not called exactly once"):
        Resume(found, IDS)


def test_a_container_that_changes_the_stream_is_refused() -> None:
    found = anatomy("llama")

    def louder(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return (args[0] * 3, *args[1:]), kwargs

    # Stands for a container that scales the stream: the block's own hooks, set later, see what it was handed.
    found.blocks[1].register_forward_pre_hook(louder, with_kwargs=True)
    with pytest.raises(ModelError, match="changes the residual stream between block 0 and what follows"):
        Resume(found, IDS)


def test_a_path_past_the_stream_is_found() -> None:
    """A block that reads what an earlier block left aside gives other logits when resumed behind that one."""
    found = anatomy("llama")
    store = SimpleNamespace(value=torch.tensor(0.0))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        store.value = store.value + 1.0

    def read(module: nn.Module, args: Any, output: Any) -> Any:
        return output + 1e-3 * store.value

    found.blocks[0].register_forward_hook(leave)
    found.blocks[1].register_forward_hook(read)
    recorded = Resume(found, IDS)
    recorded.check([1])
    store.value = torch.tensor(5.0)
    with pytest.raises(ModelError, match="resumed behind block 0 gives other logits"):
        recorded.check()


def test_weights_that_are_nan_are_an_error() -> None:
    model = tiny("llama").requires_grad_(False)
    found = describe(model)
    found.unembedding.weight.data[0, 0] = float("nan")
    with pytest.raises(NumericsError, match="NaN or infinite"):
        Resume(found, IDS)
