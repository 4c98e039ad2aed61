"""Fine-tuning of a loaded model on a text, resumable, and repeatable bit for bit.

Everything a step does is a function of the plan and the number of the step alone: which rows it reads, its rate, its
dropout. A checkpoint holds the weights and AdamW's moments as safetensors and the losses as JSON; a run that was killed
and goes on from it ends in the same bits as one that was not (same machine, threads and libraries).
"""

import hashlib
import json
import logging
import math
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from tremor.errors import ArtifactError, ConfigError, NumericsError
from tremor.models.loader import LoadedModel, quiet
from tremor.models.manifest import file_digest
from tremor.models.scan import training_scan
from tremor.progress import track
from tremor.store.documents import read_json, write_json

_LOG = logging.getLogger(__name__)
_IGNORED = -100  # label that the cross-entropy leaves out
_FILES = ("weights.safetensors", "moments.safetensors")


@dataclass(frozen=True)
class Plan:
    """How a model is fine-tuned.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Peak rate, after the warm-up; it falls linearly to 0 after it.
        warmup: Steps of linear warm-up.
        batch: Rows of a step.
        length: Tokens of a row.
        weight_decay: AdamW's decay, on matrices only.
        clip: Largest norm of the gradient.
        checkpoint: Steps between checkpoints.
        seed: Of the order of rows and of dropout.
    """

    steps: int
    learning_rate: float
    warmup: int
    batch: int
    length: int
    weight_decay: float
    clip: float
    checkpoint: int
    seed: int

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        return self.learning_rate * (self.steps - step) / max(1, self.steps - self.warmup)


@dataclass(frozen=True)
class Tuned:
    """What a fine-tuning came to.

    Attributes:
        losses: Mean loss of the rows of each step before it, nats per token.
        norms: Norm of the gradient before it was clipped.
        rows: Rows of the text.
        tokens: Predicted tokens of the text.
        resumed: Step that this run began with.
    """

    losses: tuple[float, ...]
    norms: tuple[float, ...]
    rows: int
    tokens: int
    resumed: int


def read_lines(path: Path) -> list[str]:
    """The documents of a text file: its lines that are not blank.

    Raises:
        ConfigError: There is none, or the file is no UTF-8.
    """
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise ConfigError(f"esa.train.file: {path} does not exist; give the path of a text file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"esa.train.file: {path} is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    if not found:
        raise ConfigError(f"esa.train.file: {path} is empty; there is nothing to train on")
    return found


def rows_of(loaded: LoadedModel, documents: Sequence[str], length: int) -> list[list[int]]:
    """Documents as rows of at most `length` tokens; each begins a row unless it fits behind the one before.

    Every document has what the tokenizer adds by itself and an end token, if there is one, so that its end is learnt.

    Raises:
        ConfigError: The rows do not fit into the context, or no row has a token to predict.
    """
    context = loaded.anatomy.context
    if context is not None and length > context:
        raise ConfigError(f"esa.train.length is {length}, and the context of this model {context}; lower it")
    end = loaded.tokenizer.eos_token_id
    rows: list[list[int]] = []
    row: list[int] = []
    for document in documents:
        ids = [int(i) for i in loaded.tokenizer(document, verbose=False)["input_ids"]]
        if end is not None and (not ids or ids[-1] != end):
            ids.append(int(end))
        if row and len(row) + len(ids) > length:
            rows.append(row)
            row = []
        row = row + ids
        while len(row) > length:
            rows.append(row[:length])
            row = row[length:]
    found = [row for row in [*rows, row] if len(row) > 1]
    if not found:
        raise ConfigError("esa.train.file gives no row of two tokens; there is nothing to predict")
    return found


def step_rows(rows: Sequence[Sequence[int]], plan: Plan, step: int) -> list[Sequence[int]]:
    """Rows of a step: all rows are read once, in a seeded order, before any is read again."""
    chosen: list[Sequence[int]] = []
    for place in range(step * plan.batch, (step + 1) * plan.batch):
        epoch, inside = divmod(place, len(rows))
        order = list(range(len(rows)))
        random.Random(f"{plan.seed}/{epoch}").shuffle(order)
        chosen.append(rows[order[inside]])
    return chosen


def loss_of(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> Tensor:
    """Mean next-token loss of rows, nats per token; padding is told by its place, never by its id."""
    width = max(len(row) for row in rows)
    pad = loaded.tokenizer.pad_token_id
    ids = torch.full((len(rows), width), 0 if pad is None else int(pad), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    ids, mask = ids.to(loaded.device), mask.to(loaded.device)
    logits = loaded.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    labels = ids[:, 1:].masked_fill(mask[:, 1:] == 0, _IGNORED)
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=_IGNORED)


def tune(
    loaded: LoadedModel,
    documents: Sequence[str],
    plan: Plan,
    *,
    work: Path,
    key: Mapping[str, Any],
    after: Callable[[int], None] | None = None,
) -> Tuned:
    """Fine-tune a model in place; call inside `training.repeatable`.

    Args:
        loaded: The model, in float32.
        documents: The text.
        plan: How.
        work: Folder of the checkpoint; removed by the caller when the result is written.
        key: What else the weights depend on (digests of model, text and code), in terms of JSON.
        after: Called with the number of steps done, after each step and its checkpoint (tests stop there).

    Raises:
        ConfigError: The text and the plan do not fit the model.
        NumericsError: The loss or its gradient is not finite.
    """
    if loaded.dtype != torch.float32:
        raise ConfigError(f"fine-tuning runs in float32, not in {loaded.dtype}: small steps are lost in it")
    rows = rows_of(loaded, documents, plan.length)
    parameters = [(name, p) for name, p in loaded.model.named_parameters() if p.is_floating_point()]
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for _, p in parameters if p.ndim >= 2], "weight_decay": plan.weight_decay},
            {"params": [p for _, p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=plan.learning_rate,
        foreach=True,
    )
    read = hashlib.sha256(repr(rows).encode()).hexdigest()
    checkpoint = Checkpoint(work, {**key, "plan": asdict(plan), "rows": read})
    losses, norms = checkpoint.load(parameters, optimiser)
    resumed = len(losses)
    loaded.model.requires_grad_(True)
    loaded.model.train()
    try:
        for step in track(range(resumed, plan.steps), "steps"):
            loss, norm = _step(loaded, optimiser, step_rows(rows, plan, step), plan, step)
            losses.append(loss)
            norms.append(norm)
            if (step + 1) % plan.checkpoint == 0 and step + 1 < plan.steps:
                checkpoint.save(parameters, optimiser, losses, norms)
                _LOG.info("step %d of %d, loss %.3f", step + 1, plan.steps, loss)
            if after is not None:
                after(step + 1)
    finally:
        loaded.model.requires_grad_(False)
        loaded.model.zero_grad(set_to_none=True)
        loaded.model.eval()
    return Tuned(tuple(losses), tuple(norms), len(rows), sum(len(row) - 1 for row in rows), resumed)


def _step(
    loaded: LoadedModel, optimiser: torch.optim.Optimizer, rows: Sequence[Sequence[int]], plan: Plan, step: int
) -> tuple[float, float]:
    torch.manual_seed(plan.seed * 1_000_003 + step)  # dropout of this step, wherever the run began
    for group in optimiser.param_groups:
        group["lr"] = plan.rate(step)
    with training_scan():
        loss = loss_of(loaded, rows)
    value = float(loss.detach())
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = float(torch.nn.utils.clip_grad_norm_(loaded.model.parameters(), plan.clip))
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise NumericsError(f"loss {value} and gradient norm {norm} at step {step}; lower esa.train.learning_rate")
    optimiser.step()
    return value, norm


class Checkpoint:
    """The state of a fine-tuning between two steps; whole or not there, and only for the run it belongs to.

    Args:
        folder: Where it lies.
        key: All that the state depends on but the step, in terms of JSON.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.folder = folder
        self.key = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()

    def save(
        self,
        parameters: Sequence[tuple[str, Tensor]],
        optimiser: torch.optim.Optimizer,
        losses: Sequence[float],
        norms: Sequence[float],
    ) -> None:
        """Write the state beside the old one, then put it in its place."""
        partial = self.folder.with_name(f".{self.folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed while it wrote
        partial.mkdir(parents=True)
        moments = {}
        for name, parameter in parameters:
            for kind, value in optimiser.state[parameter].items():
                moments[f"{kind}/{name}"] = value.detach().contiguous()
        save_file({name: p.detach().contiguous() for name, p in parameters}, partial / _FILES[0])
        save_file(moments, partial / _FILES[1])
        digests = {name: file_digest(partial / name) for name in _FILES}
        write_json(
            partial / "state.json",
            {"key": self.key, "step": len(losses), "losses": losses, "norms": norms, "sha256": digests},
        )
        shutil.rmtree(self.folder, ignore_errors=True)
        partial.rename(self.folder)

    def load(
        self, parameters: Sequence[tuple[str, Tensor]], optimiser: torch.optim.Optimizer
    ) -> tuple[list[float], list[float]]:
        """Put model and optimiser into the saved state, if there is one of this run.

        Returns:
            Losses and gradient norms of the steps done; empty where the run begins anew (the log tells why).
        """
        if not (self.folder / "state.json").is_file():
            return [], []
        try:
            state = read_json(self.folder / "state.json")
            if state["key"] != self.key:
                _LOG.info("the checkpoint in %s is of another run (settings, model, text or code)", self.folder)
                return [], []
            if {name: file_digest(self.folder / name) for name in _FILES} != state["sha256"]:
                raise ArtifactError("its files are not those that were written")
            weights, moments = (load_file(self.folder / name) for name in _FILES)
        except (ArtifactError, SafetensorError, OSError, KeyError, TypeError) as error:
            _LOG.warning("the checkpoint in %s is damaged (%s): the training begins anew", self.folder, error)
            return [], []
        with torch.no_grad():
            for name, parameter in parameters:
                parameter.copy_(weights[name])
                own = {k.split("/", 1)[0]: v for k, v in moments.items() if k.split("/", 1)[1] == name}
                optimiser.state[parameter] = {
                    kind: value if kind == "step" else value.to(parameter.device) for kind, value in own.items()
                }
        _LOG.info("going on from step %d", state["step"])
        return list(state["losses"]), list(state["norms"])


def save(loaded: LoadedModel, folder: Path, *, dtype: torch.dtype) -> None:
    """Write a Hugging Face folder, whole or not at all: model, tokenizer and their settings.

    Args:
        loaded: The model; its weights are rounded to `dtype` first.
        folder: Where; one that exists is replaced.
        dtype: Type of the stored weights.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with quiet():
            loaded.model.to(dtype)  # type: ignore[arg-type]
            loaded.model.save_pretrained(partial)
            loaded.tokenizer.save_pretrained(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
