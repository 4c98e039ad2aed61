"""The embedded models: three small language models trained on the spot, so nothing needs a network.

Llama, GPT-2 and Mamba architectures of one to two million parameters share one tokenizer and one corpus
(`tremor.models.corpus`). What `train` writes is an ordinary Hugging Face folder: the loading code is the same
as for a downloaded model.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tremor.errors import ConfigError, NumericsError
from tremor.models import corpus
from tremor.models.tokenizer import BOS, EOS, PAD, VOCABULARY, as_pretrained, train_bpe
from tremor.models.training import Schedule, fit, next_token_probability, recalled, repeatable, text_nll

_LOG = logging.getLogger(__name__)

CONTEXT = 128
WIDTH = 128
FRANCE = corpus.Fact("P36", "France", "Paris")


@dataclass(frozen=True)
class Recipe:
    """An embedded model: its configuration (but for the tokenizer's ids), schedule, vocabulary."""

    config: Callable[[], PreTrainedConfig]
    schedule: Schedule
    vocabulary: int = VOCABULARY


@dataclass(frozen=True)
class TrainingReport:
    """What a training came to, written to `training.json` without times: equal trainings write equal files.

    Attributes:
        architecture: "llama", "gpt2" or "mamba".
        seed: Seed of weights and order.
        threads: Threads the sums were made with.
        steps: Optimiser steps.
        parameters: Trained numbers (a tied matrix counts once).
        final_loss: Mean training loss of the last tenth of the steps, nats per token.
        capital_recall: Share of all capitals recalled after "The capital of X is".
        recall: Share recalled over the facts and train templates of a relation, by relation.
        heldout_recall: The same under templates the training did not see.
        paris_probability: Probability of " Paris" after "The capital of France is".
        paris_first: Whether " Paris" is the first choice there.
        heldout_text_nll: Negative log-likelihood of the held-out text, nats per token.
        corpus_sha256: Digest of the training documents.
        versions: Versions of the libraries that made the weights.
    """

    architecture: str
    seed: int
    threads: int
    steps: int
    parameters: int
    final_loss: float
    capital_recall: float
    recall: Mapping[str, float]
    heldout_recall: Mapping[str, float]
    paris_probability: float
    paris_first: bool
    heldout_text_nll: float
    corpus_sha256: str
    versions: Mapping[str, str]


def _llama() -> PreTrainedConfig:
    # As Llama-3.1: grouped-query attention, gated MLP, RMS norms, an unembedding of its own.
    return LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )


def _gpt2() -> PreTrainedConfig:
    # No dropout: the corpus is to be memorised, and training must not depend on a generator's stream.
    return GPT2Config(
        n_embd=WIDTH,
        n_layer=4,
        n_head=4,
        n_positions=CONTEXT,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=True,
    )


def _mamba() -> PreTrainedConfig:
    return MambaConfig(
        hidden_size=WIDTH,
        num_hidden_layers=6,
        state_size=8,
        time_step_rank=16,
        tie_word_embeddings=True,
    )


# Rates and steps were found by trial: the peak rate matters most, and small steps recall more per second.
RECIPES: Mapping[str, Recipe] = {
    "llama": Recipe(_llama, Schedule(steps=2000, learning_rate=1.5e-3)),
    "gpt2": Recipe(_gpt2, Schedule(steps=2200, learning_rate=3e-3)),
    "mamba": Recipe(_mamba, Schedule(steps=1500, learning_rate=2e-3)),
}


def train(
    architecture: str,
    directory: Path,
    *,
    seed: int = 0,
    threads: int = 1,
    min_recall: float = 0.8,
    min_probability: float = 0.5,
    recipe: Recipe | None = None,
    resources: Path = corpus.RESOURCES,
) -> TrainingReport:
    """Train an embedded model and write it as a Hugging Face folder.

    Args:
        architecture: Key of `RECIPES`.
        directory: Folder to write; one that exists is replaced when the training has succeeded, not before.
        seed: Seed of weights and order of documents.
        threads: Threads; another number gives other last bits. Layers this small gain nothing from a second
            thread, and lose much when the cores are shared; train the models side by side instead.
        min_recall: Least share of capitals that must be recalled.
        min_probability: Least probability of " Paris" after "The capital of France is".
        recipe: Another recipe than the architecture's own (tests train for a few steps).
        resources: Folder that holds `facts/` and `text/`.

    Returns:
        The report, as written to `training.json`.

    Raises:
        ConfigError: Unknown architecture.
        NumericsError: The model missed what it must know; nothing is written.
    """
    if architecture not in RECIPES:
        raise ConfigError(f"no embedded model {architecture!r}: there are {', '.join(RECIPES)}")
    plan = recipe if recipe is not None else RECIPES[architecture]
    started = time.monotonic()
    documents = corpus.training_documents(seed, resources=resources)
    tokenizer = as_pretrained(train_bpe(documents, vocabulary=plan.vocabulary), context=CONTEXT)
    with repeatable(seed=seed, threads=threads):
        model = build(plan, tokenizer)
        # The post-processor prepends the begin token; the end token separates documents in a packed row.
        encoded = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in documents]
        loss = fit(model, encoded, plan.schedule, seed=seed, pad=tokenizer.pad_token_id)
        report = _examine(
            model,
            tokenizer,
            architecture,
            plan.schedule,
            seed=seed,
            threads=threads,
            loss=loss,
            resources=resources,
        )
    _require(report, min_recall=min_recall, min_probability=min_probability)
    _write(model, tokenizer, report, directory)
    _LOG.info(
        "%s: capital recall %.3f, p(Paris) %.3f, %.0f s",
        architecture,
        report.capital_recall,
        report.paris_probability,
        time.monotonic() - started,
    )
    return report


def build(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Return the untrained model, its weights drawn from torch's generator by transformers' own rules."""
    config = recipe.config()
    config.update(
        {
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.convert_tokens_to_ids(PAD),
            "bos_token_id": tokenizer.convert_tokens_to_ids(BOS),
            "eos_token_id": tokenizer.convert_tokens_to_ids(EOS),
        }
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model


def _examine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    architecture: str,
    schedule: Schedule,
    *,
    seed: int,
    threads: int,
    loss: float,
    resources: Path,
) -> TrainingReport:
    facts = corpus.facts(resources=resources)
    capitals = [corpus.prompt(fact, corpus.CAPITAL_TEMPLATE) for fact in facts if fact.relation == "P36"]
    known = recalled(model, tokenizer, capitals)
    probability, first = next_token_probability(model, tokenizer, corpus.prompt(FRANCE, corpus.CAPITAL_TEMPLATE))
    heldout = [passage.text for passage in corpus.passages("heldout", resources=resources)]
    return TrainingReport(
        architecture=architecture,
        seed=seed,
        threads=threads,
        steps=schedule.steps,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        final_loss=loss,
        capital_recall=sum(known) / len(known),
        recall=_recall_by_relation(model, tokenizer, "train", resources),
        heldout_recall=_recall_by_relation(model, tokenizer, "heldout", resources),
        paris_probability=probability,
        paris_first=first,
        heldout_text_nll=text_nll(model, tokenizer, heldout, length=CONTEXT),
        corpus_sha256=corpus.digest(resources=resources),
        versions={
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
    )


def _recall_by_relation(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, split: corpus.TemplateSplit, resources: Path
) -> dict[str, float]:
    of_relation = corpus.templates(split, resources=resources)
    asked = [
        (fact.relation, corpus.prompt(fact, template))
        for fact in corpus.facts(resources=resources)
        for template in of_relation[fact.relation]
    ]
    flags: dict[str, list[bool]] = defaultdict(list)
    for (relation, _), flag in zip(asked, recalled(model, tokenizer, [one for _, one in asked]), strict=True):
        flags[relation].append(flag)
    return {relation: sum(of) / len(of) for relation, of in flags.items()}


def _require(report: TrainingReport, *, min_recall: float, min_probability: float) -> None:
    missed: list[str] = []
    if report.capital_recall < min_recall:
        missed.append(f"capital recall {report.capital_recall:.3f} < {min_recall}")
    if report.paris_probability < min_probability or (min_probability > 0 and not report.paris_first):
        missed.append(
            f'p(" Paris" after "The capital of France is") = {report.paris_probability:.3f}'
            f"{'' if report.paris_first else ', not the first choice'} (at least {min_probability} needed)"
        )
    if missed:
        raise NumericsError(
            f"embedded {report.architecture}, seed {report.seed}, after {report.steps} steps: {'; '.join(missed)}"
            "; nothing was written. Train for more steps or with another seed"
        )


def _write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, report: TrainingReport, directory: Path) -> None:
    """Write a sibling folder and move it into place, so that the folder is either whole or absent."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(f".{directory.name}.partial")
    replaced = directory.with_name(f".{directory.name}.replaced")
    shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed while it wrote
    try:
        model.generation_config = GenerationConfig(
            bos_token_id=model.config.bos_token_id,
            eos_token_id=model.config.eos_token_id,
            pad_token_id=model.config.pad_token_id,
            do_sample=False,
        )
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        text = json.dumps(dataclasses.asdict(report), indent=2, sort_keys=True)
        (partial / "training.json").write_text(text + "\n", encoding="utf-8")
        if directory.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            directory.rename(replaced)
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
