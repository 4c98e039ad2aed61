"""Tiny random models of every family the workflow must understand, built in code: no network, no files.

Hugging Face initialises biases at 0, norm gains at 1 and weights very small, so that a forgotten bias or a
wrong norm would not show. Here every parameter is randomised, so that every part matters to the output.
"""

import zlib
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

VOCAB = 320  # 256 bytes, two special tokens and some merges
WIDTH = 32
CONTEXT = 64

_SPECIAL = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
# Names shared by the Llama-like families.
_LLAMA = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
}
_GPT = {"n_embd": WIDTH, "n_head": 4, "n_positions": CONTEXT}
_FALCON = {"hidden_size": WIDTH, "num_attention_heads": 4, "max_position_embeddings": CONTEXT}
_OPT = {
    "hidden_size": WIDTH,
    "word_embed_proj_dim": WIDTH,
    "ffn_dim": 48,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
}

# family -> (model_type, configuration, name of the number of layers)
_CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("llama", _LLAMA, "num_hidden_layers"),
    "mistral": ("mistral", {**_LLAMA, "sliding_window": None}, "num_hidden_layers"),
    "mixtral": ("mixtral", {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}, "num_hidden_layers"),
    "gpt2": ("gpt2", _GPT, "n_layer"),
    "gpt_neo": (
        "gpt_neo",
        {
            "hidden_size": WIDTH,
            "num_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": CONTEXT,
            "window_size": 8,
        },
        "num_layers",
    ),
    "gptj": ("gptj", {**_GPT, "rotary_dim": 4}, "n_layer"),
    "gpt_neox": (
        "gpt_neox",
        {**_LLAMA, "num_key_value_heads": None, "use_parallel_residual": True},
        "num_hidden_layers",
    ),
    "gpt_neox_sequential": (
        "gpt_neox",
        {**_LLAMA, "num_key_value_heads": None, "use_parallel_residual": False},
        "num_hidden_layers",
    ),
    "opt": ("opt", _OPT, "num_hidden_layers"),
    "opt_350m": (
        "opt",
        {**_OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
        "num_hidden_layers",
    ),
    "bloom": ("bloom", {"hidden_size": WIDTH, "n_head": 4}, "n_layer"),
    "falcon": ("falcon", _FALCON, "num_hidden_layers"),
    "falcon_alibi": (
        "falcon",
        {**_FALCON, "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
        "num_hidden_layers",
    ),
    "falcon_new": (
        "falcon",
        {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
        "num_hidden_layers",
    ),
    "codegen": ("codegen", {**_GPT, "rotary_dim": 4}, "n_layer"),
    "gpt_bigcode": ("gpt_bigcode", _GPT, "n_layer"),
    "gpt_oss": (
        "gpt_oss",
        {**_LLAMA, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
        "num_hidden_layers",
    ),
    "mamba": ("mamba", {"hidden_size": WIDTH, "state_size": 4, "time_step_rank": 4}, "num_hidden_layers"),
    "mamba2": (
        "mamba2",
        {
            "hidden_size": WIDTH,
            "state_size": 4,
            "num_heads": 8,
            "head_dim": 8,
            "expand": 2,
            "n_groups": 2,
            "chunk_size": 8,
        },
        "num_hidden_layers",
    ),
    "qwen2": ("qwen2", _LLAMA, "num_hidden_layers"),
    "qwen3": ("qwen3", {**_LLAMA, "head_dim": 8}, "num_hidden_layers"),
    "gemma2": (
        "gemma2",
        {**_LLAMA, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8},
        "num_hidden_layers",
    ),
    "phi": ("phi", {**_LLAMA, "num_key_value_heads": 4}, "num_hidden_layers"),
    "olmo": ("olmo", _LLAMA, "num_hidden_layers"),
    "olmo2": ("olmo2", _LLAMA, "num_hidden_layers"),
    "stablelm": ("stablelm", _LLAMA, "num_hidden_layers"),
    "rwkv": (
        "rwkv",
        {"hidden_size": WIDTH, "attention_hidden_size": WIDTH, "intermediate_size": 48, "rescale_every": 2},
        "num_hidden_layers",
    ),
    "granite": (
        "granite",
        {**_LLAMA, "embedding_multiplier": 3.0, "logits_scaling": 7.0, "residual_multiplier": 1.0},
        "num_hidden_layers",
    ),
}

FAMILIES: tuple[str, ...] = tuple(_CONFIGS)
"""Every family that `tiny` builds."""


def _randomise(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Give every parameter a value that matters; recurrent time scales keep their start, plus noise."""
    embedding = model.get_input_embeddings().weight
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            special = "A_log" in name or "time_" in name or name.endswith("mixer.D") or "_bias" in name
            if parameter is embedding:
                parameter.copy_(0.5 * noise)
            elif parameter.ndim >= 2 and not special:
                fan_in = parameter.shape[-1]
                parameter.copy_(0.8 * noise / fan_in**0.5)
            else:
                parameter.add_(0.2 * noise)


def tiny(family: str, *, layers: int = 3, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """Build a tiny random model.

    Args:
        family: One of `FAMILIES`.
        layers: Number of blocks.
        seed: Seed of the weights.
        **overrides: Keys of the family's transformers config.

    Returns:
        The model with its language-model head, float32, on the CPU, in eval mode.
    """
    model_type, settings, depth = _CONFIGS[family]
    settings = {"vocab_size": VOCAB, **_SPECIAL, **settings, depth: layers, **overrides}
    if model_type == "gpt_neo":
        settings["attention_types"] = [[["global"], 1], [["local"], layers - 1]]
    config = AutoConfig.for_model(model_type, **settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed + zlib.crc32(family.encode()))
    _randomise(model, generator)
    model.eval()
    return model


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A real byte-level BPE tokenizer of at most `VOCAB` tokens, trained in code on two sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = [
        "The capital of France is Paris.",
        "The capital of Spain is Madrid, the capital of Italy is Rome.",
    ]
    tokenizer.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def save_tiny(family: str, directory: Path, **settings: Any) -> PreTrainedModel:
    """Save a tiny model as an ordinary Hugging Face directory: safetensors, config and tokenizer.

    Args:
        family: One of `FAMILIES`.
        directory: Where to write; made if it is not there.
        **settings: Passed to `tiny`.

    Returns:
        The model that was saved.
    """
    model = tiny(family, **settings)
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return model
