"""Tiny random models of every family the workflow must understand, built in code: no network, no files.

Hugging Face initialises biases at 0, norm gains at 1 and weights very small, so that a forgotten bias or a
wrong norm would not show. Here every parameter is randomised, so that every part matters to the output.
"""

import zlib
from collections.abc import Callable
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
# Experts narrower than a dense MLP would be; 2 * 12 is not the width, so that the layout is plain to see.
_EXPERTS = {**_LLAMA, "head_dim": 8, "moe_intermediate_size": 12, "num_experts": 4, "num_experts_per_tok": 2}
_SHARED = {**_EXPERTS, "shared_expert_intermediate_size": 24}
_DELTA = {  # gated DeltaNet, the linear attention of the hybrids
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
}
_GEMMA = {**_LLAMA, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}
_GEMMA4 = {
    **_LLAMA,
    "head_dim": 8,
    "global_head_dim": 16,
    "sliding_window": 8,
    "hidden_size_per_layer_input": 0,
    "final_logit_softcapping": 30.0,
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
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
    "llama3": (  # the rotation of Llama 3.1, and the tied embeddings of the small 3.2
        "llama",
        {
            **_LLAMA,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
        "num_hidden_layers",
    ),
    "starcoder2": ("starcoder2", {**_LLAMA, "sliding_window": 8}, "num_hidden_layers"),
    "mpt": ("mpt", {"d_model": WIDTH, "n_heads": 4, "max_seq_len": CONTEXT, "expansion_ratio": 2}, "n_layers"),
    "falcon_mamba": (
        "falcon_mamba",
        {"hidden_size": WIDTH, "state_size": 4, "time_step_rank": 4},
        "num_hidden_layers",
    ),
    "qwen2_moe": ("qwen2_moe", _SHARED, "num_hidden_layers"),
    "qwen3_moe": ("qwen3_moe", _EXPERTS, "num_hidden_layers"),
    "qwen3_next": ("qwen3_next", {**_SHARED, **_DELTA}, "num_hidden_layers"),
    "qwen3_5": ("qwen3_5_text", {**_LLAMA, **_DELTA, "head_dim": 8}, "num_hidden_layers"),
    "qwen3_5_moe": ("qwen3_5_moe_text", {**_SHARED, **_DELTA}, "num_hidden_layers"),
    "gemma": ("gemma", {**_LLAMA, "head_dim": 8}, "num_hidden_layers"),
    "gemma3": ("gemma3_text", _GEMMA, "num_hidden_layers"),
    "gemma4": ("gemma4_text", _GEMMA4, "num_hidden_layers"),
    # Blocks with full attention take their values from the projection of the keys.
    "gemma4_shared_values": (
        "gemma4_text",
        {**_GEMMA4, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
        "num_hidden_layers",
    ),
    # As the larger checkpoints come: a model of text and pictures, of which text alone is asked.
    "gemma3_multimodal": (
        "gemma3",
        {
            "text_config": _GEMMA,
            "vision_config": _VISION,
            "mm_tokens_per_image": 4,
            "image_token_index": 310,
            "boi_token_index": 311,
            "eoi_token_index": 312,
        },
        "num_hidden_layers",
    ),
    "gemma4_multimodal": (
        "gemma4",
        {"text_config": _GEMMA4, "image_token_id": 310, "video_token_id": 311, "audio_token_id": 312},
        "num_hidden_layers",
    ),
    "vaultgemma": ("vaultgemma", _GEMMA, "num_hidden_layers"),
    "recurrent_gemma": (
        "recurrent_gemma",
        {
            "hidden_size": WIDTH,
            "intermediate_size": 96,
            "num_attention_heads": 4,
            "lru_width": WIDTH,
            "attention_window_size": 8,
        },
        "num_hidden_layers",
    ),
    "phi3": ("phi3", _LLAMA, "num_hidden_layers"),
    "phi4_multimodal": (
        "phi4_multimodal",
        {
            **_LLAMA,
            "vision_config": {**_VISION, "num_hidden_layers": 4, "crop_size": 16, "image_token_id": 310},
            "audio_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_blocks": 1,
                "num_attention_heads": 2,
                "ext_pw_out_channel": 16,
                "depthwise_separable_out_channel": 16,
                "nemo_conv_channels": 16,
                "input_size": 16,
                "audio_token_id": 311,
            },
        },
        "num_hidden_layers",
    ),
    "phimoe": ("phimoe", {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}, "num_hidden_layers"),
    # As wide as the stream once gate and up are stacked, as in OLMoE-1B-7B.
    "olmoe": (
        "olmoe",
        {**_LLAMA, "intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2},
        "num_hidden_layers",
    ),
    "olmo3": ("olmo3", {**_LLAMA, "sliding_window": 8}, "num_hidden_layers"),
    "flex_olmo": ("flex_olmo", {**_LLAMA, "num_experts": 4, "num_experts_per_tok": 2}, "num_hidden_layers"),
    "olmo_hybrid": ("olmo_hybrid", {**_LLAMA, **_DELTA}, "num_hidden_layers"),
}

_EXPERT_KEYS = {"num_experts", "num_local_experts"}

# Families that the anatomy refuses, and must go on refusing as long as it cannot read them.
_REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "gemma3n": (
        "gemma3n_text",
        {
            **_LLAMA,
            "head_dim": 8,
            "sliding_window": 8,
            "vocab_size_per_layer_input": VOCAB,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 0,
            "laurel_rank": 4,
        },
        "num_hidden_layers",
    ),
    "gemma4_per_layer": (
        "gemma4_text",
        {**_GEMMA4, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCAB},
        "num_hidden_layers",
    ),
    "gemma4_moe": (
        "gemma4_text",
        {**_GEMMA4, "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 12},
        "num_hidden_layers",
    ),
    "qwen4_exp": (
        "qwen4_exp_text",
        {
            **_SHARED,
            **_DELTA,
            "hc_count": 2,
            "hc_lowrank": 4,
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 8,
            "indexer_budget": 8,
            "indexer_compress_ratio": 2,
        },
        "num_hidden_layers",
    ),
}

FAMILIES: tuple[str, ...] = tuple(_CONFIGS)
"""Every family that the workflow must understand."""

REFUSED: tuple[str, ...] = tuple(_REFUSED)
"""Families that it must refuse; `tiny` builds them too."""

EXPERTS: tuple[str, ...] = tuple(name for name, (_, settings, _) in _CONFIGS.items() if settings.keys() & _EXPERT_KEYS)
"""Families with a mixture of experts."""

UNCACHED = ("rwkv", "recurrent_gemma")
"""Families that cannot go on from a frozen prefix: their states are kept in no cache of transformers."""

NO_CACHE = ("recurrent_gemma",)
"""Families that give their cache to nobody, so that tokens are decoded without one."""

NOT_FLOAT64 = ("recurrent_gemma",)
"""Families that may not be called float64: a state of the last forward stays in their modules."""


def _hybrid(layers: int) -> dict[str, Any]:
    return {"layer_types": ["full_attention" if k % 2 else "linear_attention" for k in range(layers)]}


def _windows(layers: int) -> dict[str, Any]:
    """Sliding windows and full attention in turn, the last block full."""
    return {"layer_types": [f"{'full' if (layers - k) % 2 else 'sliding'}_attention" for k in range(layers)]}


# Settings that name each block.
_BY_DEPTH: dict[str, Callable[[int], dict[str, Any]]] = {
    "gpt_neo": lambda layers: {"attention_types": [[["global"], 1], [["local"], layers - 1]]},
    **dict.fromkeys(("qwen3_next", "qwen3_5", "qwen3_5_moe", "olmo_hybrid", "qwen4_exp"), _hybrid),
    **dict.fromkeys(("gemma3", "gemma3_multimodal", "gemma4", "gemma4_shared_values", "gemma4_multimodal"), _windows),
    **dict.fromkeys(("gemma4_per_layer", "gemma4_moe", "gemma3n", "olmo3"), _windows),
    "recurrent_gemma": lambda layers: {"block_types": ["attention" if k % 2 else "recurrent" for k in range(layers)]},
}


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
        for name, buffer in model.named_buffers():
            if name.endswith("layer_scalar"):  # Gemma 4 scales the stream behind each block; 1 would hide it
                buffer.fill_(0.75)


# How the settings of a model of several media begin that are not those of its text.
_OUTER = ("vision_", "video_", "audio_", "image_", "mm_", "boi_", "eoi_", "attn_", "experts_")


def _settings(own: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a model; of one with a part for text, what names text goes into that part."""
    text = own.pop("text_config", None)
    if text is None:
        return {"vocab_size": VOCAB, **_SPECIAL, **own}
    outer = {name: own.pop(name) for name in list(own) if name.startswith(_OUTER)}
    return {**outer, "text_config": {"vocab_size": VOCAB, **_SPECIAL, "pad_token_id": 313, **text, **own}}


def tiny(family: str, *, layers: int = 3, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """Build a tiny random model.

    Args:
        family: One of `FAMILIES` or `REFUSED`.
        layers: Number of blocks.
        seed: Seed of the weights.
        **overrides: Keys of the family's transformers config.

    Returns:
        The model with its language-model head, float32, on the CPU, in eval mode.
    """
    model_type, settings, depth = _CONFIGS.get(family) or _REFUSED[family]
    by_depth = _BY_DEPTH[family](layers) if family in _BY_DEPTH else {}
    settings = _settings({**settings, depth: layers, **by_depth, **overrides})
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
