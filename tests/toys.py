"""Toys with known answers: a bigram softmax model, and a GPT-2 small enough for its whole Hessian."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from families import tiny
from tremor.models.anatomy import describe
from tremor.weights.scores import Options, Task
from tremor.weights.select import select

VOCAB = 6


class Bigram(nn.Module):
    """Logits of the next token are a column of one matrix: softmax regression on one-hot inputs."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.head = nn.Linear(VOCAB, VOCAB, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(VOCAB, VOCAB, generator=generator))

    def forward(self, input_ids: Tensor, **ignored: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(F.one_hot(input_ids, VOCAB).to(self.head.weight.dtype)))


def bigram_task(texts: list[list[int]], *, dtype: torch.dtype = torch.float64, **options: Any) -> Task:
    model = Bigram().to(dtype).eval()
    anatomy: Any = SimpleNamespace(
        model=model, parameter=model.get_parameter, transposed=frozenset(), n_layers=0, block_parts=(), tied=False,
        embedding=None, unembedding=model.head, final_norm=None,
    )  # fmt: skip
    loaded: Any = SimpleNamespace(model=model, anatomy=anatomy, device=torch.device("cpu"))
    return Task(loaded, [torch.tensor(text) for text in texts], select(anatomy), Options(**options))


def closed_forms(task: Task) -> list[tuple[Tensor, Tensor]]:
    """Gradient and diagonal of the Hessian of each text's mean NLL, [VOCAB, VOCAB], by the formulas of softmax."""
    weight = task.loaded.model.head.weight.detach()  # type: ignore[union-attr]
    found = []
    for ids in task.sequences:
        gradient, curvature = torch.zeros_like(weight), torch.zeros_like(weight)
        for now, after in zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True):
            p = weight[:, now].softmax(0)
            gradient[:, now] += (p - F.one_hot(torch.tensor(after), VOCAB)) / (len(ids) - 1)
            curvature[:, now] += p * (1 - p) / (len(ids) - 1)
        found.append((gradient, curvature))
    return found


def small_task(count: int = 2, **options: Any) -> Task:
    """A GPT-2 of 1136 parameters in float64 with texts of random tokens.

    Not a Llama: its norms compute in float32 whatever the model's type is, which drowns finite differences.
    """
    model = tiny(
        "gpt2", layers=1, vocab_size=20, n_embd=8, n_head=2, n_positions=12, n_inner=16, attn_implementation="eager"
    ).double()
    anatomy = describe(model)
    loaded: Any = SimpleNamespace(model=model, anatomy=anatomy, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(5)
    texts = [torch.randint(0, 20, (5 + i,), generator=generator) for i in range(count)]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return Task(loaded, texts, select(anatomy), Options(**options))


def losses(task: Task) -> list[Tensor]:
    """Each text's mean NLL, by the plainest code there is."""
    found = []
    for ids in task.sequences:
        logits = task.loaded.model(input_ids=ids[None], use_cache=False).logits[0]
        logp = logits.log_softmax(-1)
        found.append(-sum(logp[t, ids[t + 1]] for t in range(len(ids) - 1)) / (len(ids) - 1))
    return found
