"""What the page says of each experiment: its question, the figure that shows it best, its chapter.

Names are those of :data:`tremor.graph.FIGURES`; an experiment that is missing here still appears on the page, with its
name alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """What the page says of an experiment."""

    question: str
    figure: str | None = None  # name of its key figure; None takes the first
    page: str = ""  # documentation, below docs/; "" is the experiment's own name


CHAPTERS: Mapping[str, Mapping[str, About]] = {
    "Steps, boundaries, noise": {
        "spectrum": About("To which directions of its input is the model most sensitive?", "spectrum"),
        "exp12": About("How far can the input move in the plane of the two most sensitive directions before any bit of "
                       "the answer changes?", "polar"),
        "exp13": About("How far can it move along every singular direction, both ways, and along random ones?"),
        "exp15": About("How large are the input's step and the answer's jump at those boundaries?"),
        "regimes": About("From which step on does the answer change, and from which does it follow the derivative "
                         "rather than rounding?", "regimes"),
        "noise_floors": About("How far is every number format, mode and platform from true float64 arithmetic?"),
        "exp14": About("Along a walk of tiny steps, where does the input change, and where the answer?"),
        "exp11": About("Does it matter which coordinates a direction moves: shifted, turned and random directions?"),
        "exp1": About("How does a nudge travel through the layers, and at which steps of a fine walk does anything "
                      "change?"),
        "exp5": About("Which block, and which branch of it, stretches a small change; do the blocks' Jacobians "
                      "multiply to the model's?"),
        "exp2": About("How large is the local gain over a set of prompts, and what do difference quotients make of "
                      "it?"),
        "exp3": About("Which coordinates does a step still move in which number format, and how far apart are the "
                      "formats' answers?"),
        "lipschitz": About("What do difference quotients say over many decades, and do nudges change the experts a "
                           "mixture chooses?"),
        "perturbation": About("How much noise at all positions changes the next token?"),
    },
    "Ties of two tokens": {
        "exp6": About("Where are the two leading tokens tied, and which smallest step flips the choice?", "flips"),
        "exp7": About("What does the tie look like in a plane, and is its ragged border random?", "maps"),
    },
    "Two platforms": {
        "recordings": About("What did the model hold, stage by stage, while it wrote, on each platform?"),
        "exp4": About("Where do the texts of two platforms part, how far were the states from each other there, and "
                      "was it a tie?", "drift"),
        "exp4/angles": About("Which unembedding vectors does the final state point at, token by token?", page="exp4"),
        "exp8": About("Which stage is the first whose bits differ between two platforms, how does it grow, and does it "
                      "decide the token?"),
        "exp10/tensors": About("From which product on do two platforms differ?", page="exp10"),
    },
    "Weights": {
        "exp9": About("How large are the weights, how are they distributed, how many directions does each matrix have?",
                      "magnitudes"),
        "exp10": About("What do a matrix, a weight and an MLP make of smaller and smaller steps?"),
        "critical_weights": About("Which single weights matter, by which score, and what does changing them cost "
                                  "beside random ones?"),
        "cross": About("Do critical weights move sigma_1, the noise floor and the stability boundary, beside random "
                       "ones?", "effects"),
        "esa/super-weights": About("Which single weights matter most by fifteen scores, and what does their removal "
                                   "cost?", page="esa"),
        "esa/compare-sensitivity": About("Do the scores agree on which weights matter?", page="esa"),
        "esa/sensitivity": About("What does each block, component, norm and head contribute?", page="esa"),
        "esa/targeted-perturbation": About("How does the damage grow with the share of the most important weights, "
                                           "beside random ones?", page="esa"),
        "esa/selective-weight-pruning": About("What does the model write once chosen weights are replaced?",
                                              page="esa"),
        "esa/pruning": About("How sparse can the model be?", page="esa"),
        "esa/robustness": About("How much noise do the weights bear, and does it matter where it falls?", page="esa"),
        "esa/adversarial": About("How small a change of embeddings, tokens or letters spoils the answer, beside random "
                                 "ones?", page="esa"),
        "esa/bit-level": About("Which bits matter, how few flips destroy the model, and how many bits does it need?",
                               page="esa"),
        "esa/evaluate": About("How likely, how well calibrated and what kind of text does the model write?",
                              page="esa"),
        "esa/train": About("What does fine-tuning on a text do to other text?", page="esa"),
        "esa/attribution": About("Can a language model tell which components matter, held to measured ablation?",
                                 page="esa"),
        "esa/integrated": About("What do all these say together, before and after fine-tuning?", page="esa"),
    },
    "Layers and neurons": {
        "delta/jacobian": About("What is the gain of every layer, and how do architectures compare?", page="delta"),
        "delta/percentage": About("Which neurons carry a relation, and what does their ablation cost facts and other "
                                  "text?", page="delta"),
        "delta/factual": About("What do every relation's neurons do to every relation's facts?", page="delta"),
        "delta/tracing": About("Which state brings an answer back (causal tracing)?", page="delta"),
    },
    "Documents": {
        "pdf": About("How probable is every word of a document, of what rank, and where does the final state point?"),
    },
}  # fmt: skip
ABOUT: Mapping[str, About] = {name: about for chapter in CHAPTERS.values() for name, about in chapter.items()}
OTHER = "Further"


def chapter(experiment: str) -> str:
    """The chapter an experiment stands in."""
    return next((title for title, names in CHAPTERS.items() if experiment in names), OTHER)


def about(experiment: str) -> About:
    """What the page says of an experiment; its name where nobody wrote anything."""
    return ABOUT.get(experiment, About(""))
