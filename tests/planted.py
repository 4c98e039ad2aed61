"""A GPT-2 in which one neuron alone carries a relation, another one a second one, and a third varies for nothing."""

from dataclasses import dataclass
from pathlib import Path

import torch

from families import save_tiny
from tremor.evaluate.relations import Sentence
from tremor.models.loader import LoadedModel, load

LAYER = 0
CARRIERS = {"A": 50, "B": 51}  # relation -> unit of the MLP's inner layer
LOUD = 20  # varies with the text, and nobody reads it
CUES = {"A": "q", "B": "z"}  # the last token of a relation's prompts
ANSWERS = {"A": "=", "B": "#"}
SUBJECTS = ("J", "K", "V", "W", "X", "Y", "Z", "k", "v", "w")


@dataclass(frozen=True)
class Planted:
    """The model and its sentences."""

    loaded: LoadedModel
    sentences: tuple[Sentence, ...]


def sentences(relation: str) -> list[Sentence]:
    """Subject, cue, answer, full stop; subjects of different lengths."""
    found = []
    for number, letter in enumerate(SUBJECTS):
        subject = letter * (1 + number % 3)
        text = f"{subject}{CUES[relation]}{ANSWERS[relation]}."
        end = len(subject) + 1
        found.append(Sentence(relation, "train", text, (0, len(subject)), (end, end + 1)))
    return found


def plant(folder: Path) -> Planted:
    """Build the model: attention and other MLPs write nothing, a carrier reads its cue and writes its answer."""
    save_tiny("gpt2", folder, layers=2, n_positions=256)
    loaded = load(folder, device="cpu")
    model = loaded.model
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()
        for block in model.transformer.h:
            for module in (block.attn.c_proj, block.mlp.c_proj):
                module.weight.zero_()
                module.bias.zero_()
        block = model.transformer.h[LAYER]
        block.mlp.c_fc.weight.zero_()
        block.mlp.c_fc.bias.zero_()
        embedding = model.transformer.wte.weight

        def token(text: str) -> int:
            (number,) = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
            return int(number)

        every = block.ln_2(embedding)
        for relation, unit in CARRIERS.items():
            cue = every[token(CUES[relation])]
            direction = cue / cue.norm()
            others = every @ direction
            others[token(CUES[relation])] = -torch.inf
            # Between the cue's own projection and the largest of all other tokens': it fires for the cue only.
            threshold = (cue.norm() + others.max()) / 2
            gain = 8.0 / (cue.norm() - threshold)
            block.mlp.c_fc.weight[:, unit] = gain * direction
            block.mlp.c_fc.bias[unit] = -gain * threshold
            answer = embedding[token(ANSWERS[relation])]
            block.mlp.c_proj.weight[unit] = 4.0 * answer / answer.norm()
        # Large, and of another size for every token: its variance over texts beats that of the carriers.
        block.mlp.c_fc.weight[:, LOUD] = 50.0 * torch.randn(32, generator=torch.Generator().manual_seed(1))
    return Planted(loaded, (*sentences("A"), *sentences("B")))
