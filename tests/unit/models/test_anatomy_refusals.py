"""What the anatomy refuses, each with its reason."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedModel

from families import tiny
from tremor.errors import ModelError
from tremor.models.anatomy import describe


def _small(model_type: str, auto: Any, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = auto.from_config(AutoConfig.for_model(model_type, vocab_size=64, **settings)).eval()
    return model


def test_encoder_decoder_is_refused() -> None:
    model = _small("t5", AutoModelForSeq2SeqLM, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=4)
    with pytest.raises(ModelError, match="encoder-decoder"):
        describe(model)


def test_encoder_is_refused() -> None:
    settings = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 16}
    model = _small("bert", AutoModelForMaskedLM, **settings)
    with pytest.raises(ModelError, match="not causal"):
        describe(model)


def test_base_model_without_head_is_refused() -> None:
    with pytest.raises(ModelError, match="no output embedding"):
        describe(tiny("llama").base_model)


def test_training_mode_is_refused() -> None:
    with pytest.raises(ModelError, match="training mode"):
        describe(tiny("llama").train())


def test_model_without_list_of_blocks_is_refused() -> None:
    model = tiny("llama")
    model.config.num_hidden_layers = 5
    with pytest.raises(ModelError, match=r"list of 5 blocks, found 0 \(none\)"):
        describe(model)


def test_model_with_two_lists_of_blocks_is_refused() -> None:
    model = tiny("llama")
    model.model.more = nn.ModuleList([nn.Identity() for _ in range(3)])
    with pytest.raises(ModelError, match=r"found 2 \(model.layers, model.more\)"):
        describe(model)


def test_blocks_that_are_skipped_are_refused() -> None:
    model = tiny("llama")
    model.model.layers[1] = model.model.layers[0]
    with pytest.raises(ModelError, match="not run once each"):
        describe(model)


def test_unknown_treatment_of_the_logits_is_refused() -> None:
    model = tiny("gemma2")
    handle = model.register_forward_hook(lambda module, args, output: setattr(output, "logits", output.logits + 1))
    with pytest.raises(ModelError, match="head is not understood"):
        describe(model)
    handle.remove()


def test_unknown_parameter_and_tap_are_refused() -> None:
    anatomy = describe(tiny("llama"))
    with pytest.raises(ModelError, match=r"no parameter 'model\.nothing'"):
        anatomy.parameter("model.nothing")
    with pytest.raises(ModelError, match=r"tap 'residual\.9' does not exist"):
        anatomy.record(["residual.9"])
