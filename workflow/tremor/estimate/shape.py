"""The numbers of a model that its cost follows from, out of its config.json (no torch)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tremor.errors import ModelError
from tremor.sizes import BYTES

_NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "width": ("hidden_size", "n_embd", "d_model"),
    "vocab": ("vocab_size",),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "inner": ("intermediate_size", "n_inner", "ffn_dim"),
    "context": ("max_position_embeddings", "n_positions", "context_length"),
}
_SCANS = ("mamba", "mamba2", "falcon_mamba", "rwkv", "recurrent_gemma", "jamba")
_PLAIN_MLP = ("gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "falcon", "phi", "codegen")

# config.json of the embedded models, whose files are not there before they are trained.
EMBEDDED: Mapping[str, Mapping[str, Any]] = {
    "llama": {
        "model_type": "llama", "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 4, "vocab_size": 2560,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
        "tie_word_embeddings": False,
    },
    "gpt2": {
        "model_type": "gpt2", "n_embd": 128, "n_layer": 4, "n_head": 4, "vocab_size": 2560, "n_positions": 128,
        "tie_word_embeddings": True,
    },
    "mamba": {
        "model_type": "mamba", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 6, "state_size": 8,
        "time_step_rank": 16, "conv_kernel": 4, "vocab_size": 2560, "tie_word_embeddings": True,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A model in numbers."""

    kind: str  # model_type
    layers: int
    width: int  # of the stream, d
    inner: int  # of the MLP, or of the mixer where there is no MLP
    vocab: int
    heads: int
    kv_width: int  # of the keys, and of the values, of one position
    context: int
    tied: bool
    scan: bool  # positions are run one after another
    block: int  # parameters of one block

    @property
    def embedding(self) -> int:
        """Parameters of the token embedding."""
        return self.vocab * self.width

    @property
    def parameters(self) -> int:
        """Parameters of all."""
        return self.layers * self.block + self.embedding * (1 if self.tied else 2)

    def weights(self, dtype: str) -> int:
        """Bytes of the weights in a type."""
        return self.parameters * BYTES[dtype]

    def flops(self, tokens: int, *, past: float = 0.0) -> float:
        """Operations of the blocks for one sequence of some positions behind `past` others, without the unembedding.

        Two for each parameter and position, and 4 d for each pair of positions that attention joins.
        """
        joined = 0.0 if self.scan else tokens * (past + (tokens + 1) / 2)
        return self.layers * (2.0 * self.block * tokens + 4.0 * self.width * joined)

    @property
    def unembedding(self) -> float:
        """Operations of the logits of one position."""
        return 2.0 * self.embedding

    def cache(self, tokens: int, dtype: str) -> int:
        """Bytes that the past of one row takes: keys and values, which a scan does not keep."""
        return 0 if self.scan else 2 * self.layers * self.kv_width * tokens * BYTES[dtype]


def from_config(config: Mapping[str, Any], *, source: str = "config.json") -> Shape:
    """Read the numbers of a causal language model.

    Args:
        config: The content of its config.json.
        source: Where it is from, for messages.

    Raises:
        ModelError: a number that the cost needs is missing.
    """

    def get(name: str, default: int | None = None) -> int:
        found = next((config[key] for key in _NAMES[name] if config.get(key) is not None), default)
        if found is None:
            raise ModelError(f"{source} says nothing of {' or '.join(_NAMES[name])}, so no cost can be told")
        return int(found)

    kind = str(config.get("model_type", ""))
    width, layers, vocab = get("width"), get("layers"), get("vocab")
    scan = kind in _SCANS
    heads = get("heads", 1)
    per_head = int(config.get("head_dim") or width // heads)
    kv = int(config.get("num_key_value_heads") or heads) * per_head
    inner = get("inner", 2 * width if scan else 4 * width)
    if scan:
        state = int(config.get("state_size") or 16)
        rank = config.get("time_step_rank", "auto")
        rank = int(rank) if isinstance(rank, int) else -(-width // 16)
        block = 3 * width * inner + inner * (2 * rank + 3 * state + int(config.get("conv_kernel") or 4) + 3) + width
        kv = 0
    else:
        attention = 2 * width * heads * per_head + 2 * width * kv
        experts = int(config.get("num_local_experts") or config.get("num_experts") or 1)
        matrices = 2 if kind in _PLAIN_MLP else 3
        norms = 4 * width + (4 * width + inner + width if kind in _PLAIN_MLP else -2 * width)
        block = attention + experts * matrices * width * inner + norms
    return Shape(
        kind=kind,
        layers=layers,
        width=width,
        inner=inner,
        vocab=vocab,
        heads=heads,
        kv_width=kv,
        context=get("context", 2048),
        tied=bool(config.get("tie_word_embeddings", True)),
        scan=scan,
        block=block,
    )


def read(directory: str, entry: Mapping[str, Any]) -> Shape:
    """The numbers of a model of the configuration.

    Args:
        directory: Its folder.
        entry: Its entry in the configuration; an embedded model is known before it is trained.

    Raises:
        ModelError: it is not there, so nothing is known of it.
    """
    file = Path(directory) / "config.json"
    if not file.is_file() and entry["source"] == "embedded":
        return from_config(EMBEDDED[str(entry["architecture"])], source=f"the {entry['architecture']} model")
    try:
        return from_config(json.loads(file.read_text(encoding="utf-8")), source=str(file))
    except OSError as error:
        target = f"resources/models/{file.parent.name}/manifest.json"
        hint = f"; fetch it first: snakemake --cores 1 {target}" if entry["source"] == "hub" else "; check its path"
        raise ModelError(f"cannot read {file}, so nothing is known of the model's cost{hint}") from error
    except (UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"{file} is no JSON; copy or fetch the model again") from error
