"""Random Llamas in memory: the shapes that the instruments are timed on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tremor.models.anatomy import describe
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, to_array


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama."""

    width: int = 256
    layers: int = 8
    inner: int = 1024
    heads: int = 4
    key_value_heads: int = 4
    vocab: int = 512

    def text(self) -> str:
        """One line for the page."""
        return (
            f"d {self.width}, {self.layers} layers, intermediate {self.inner}, {self.heads} heads, "
            f"{self.key_value_heads} key-value heads"
        )


SMALL = Shape()
LLAMA_8B = Shape(4096, 32, 14336, 32, 8, 1024)  # the vocabulary does not enter: no logits are formed


def build(shape: Shape, device: str = "cpu") -> LoadedModel:
    """A random float32 Llama on a device, ready for measurement."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=256,
    )
    with torch.device(device):
        model = LlamaForCausalLM(config)
    model.set_attn_implementation("sdpa")
    model.eval().requires_grad_(False)
    words = {f"w{i}": i for i in range(shape.vocab)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")),
    )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        anatomy=describe(model),
        dtype=torch.float32,
        device=torch.device(device),
        attention="sdpa",
        experts=None,
        digest="random",
    )


def point(loaded: LoadedModel, tokens: int) -> BasePoint:
    """A base point of a fixed prompt of this many tokens."""
    ids = (7 * np.arange(tokens, dtype=np.int64) + 3) % loaded.anatomy.vocab
    with torch.no_grad():
        embeddings = loaded.anatomy.embed(torch.from_numpy(ids)[None].to(loaded.device))[0]
    return BasePoint(text="", ids=ids, embeddings=embeddings, x=to_array(embeddings[-1]), fmt="float32")


def block_parameters(loaded: LoadedModel) -> int:
    """Numbers in the blocks; each costs one multiplication and one addition a row."""
    return sum(p.numel() for p in loaded.anatomy.blocks.parameters())


def plane(width: int, rays: int) -> npt.NDArray[np.float32]:
    """Directions [rays, width] float32, evenly spaced over a random plane, as exp12 forms them."""
    e1, e2 = np.linalg.qr(np.random.default_rng(0).standard_normal((width, 2)))[0].T
    theta = np.linspace(0.0, 2 * np.pi, rays, endpoint=False)
    directions: npt.NDArray[np.float32] = (np.outer(np.cos(theta), e1) + np.outer(np.sin(theta), e2)).astype(np.float32)
    return directions
