"""esa/train: a model fine-tuned on a text file, and what that did to its likelihood of other text."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tremor.errors import ConfigError
from tremor.evaluate import nll
from tremor.evaluate import texts as evaluation_texts
from tremor.evaluate.effects import Resampler
from tremor.evaluate.nll import Evaluation
from tremor.experiments.session import Session
from tremor.models import finetune, manifest
from tremor.models.corpus import Passage
from tremor.models.loader import DTYPES, LoadedModel, load
from tremor.models.training import repeatable
from tremor.store.documents import write_json
from tremor.store.tables import write_csv

ALL, TRAINED = "all", "training text"


def measure(
    session: Session,
    *,
    settings: Mapping[str, Any],
    texts: Mapping[str, Any],
    file: Path,
    directory: Path,
    dtype: str,
    model: Path,
    description: Path,
    losses: Path,
    evaluation: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Fine-tune, save, load what was saved, and evaluate it beside the model before.

    Args:
        session: The model in float32.
        settings: Config block `esa.train`.
        texts: Config block `esa.texts`.
        file: The text file.
        directory: Folder of the model before.
        dtype: Type that the result is stored in and that both models are evaluated in.
        model: Folder to write: the fine-tuned model, for `source: path`.
        description: Manifest to write, of that folder.
        losses: CSV to write: one row for each step.
        evaluation: CSV to write: one row for each domain, for all of them and for the training text.
        statistics: JSON to write.
        provenance: Config, code and input digests.

    Raises:
        ConfigError: The text file is empty, or holds held-out passages.
    """
    loaded: LoadedModel = session.loaded
    documents = finetune.read_lines(file)
    heldout = evaluation_texts.passages("heldout")
    _disjoint(documents, heldout, file)
    passages = (*heldout, *(Passage(TRAINED, line) for line in documents))
    before = _evaluate(_in_type(loaded, directory, dtype), passages, texts)
    plan = finetune.Plan(**{name: value for name, value in settings.items() if name != "file"})
    work = losses.parent / "checkpoint.partial"
    key = {
        "model": loaded.digest,
        "text": hashlib.sha256(file.read_bytes()).hexdigest(),
        "platform": session.fingerprint,
        "code": provenance["code"],
    }
    with repeatable(seed=plan.seed, threads=torch.get_num_threads()):
        tuned = finetune.tune(loaded, documents, plan, work=work, key=key)
    finetune.save(loaded, model, dtype=DTYPES[dtype])
    after = _evaluate(load(model, dtype=dtype, device=str(loaded.device), attention=loaded.attention), passages, texts)
    rows = compare(passages, before, after, settings["seed"])
    described = manifest.build(f"{session.manifest['alias']}-tuned", {"source": "path"}, model)
    origin = session.provenance(**provenance, seeds={"train": plan.seed})
    write_json(description, described)
    write_csv(losses, _losses(tuned, plan), provenance=origin)
    write_csv(evaluation, rows, provenance=origin)
    write_json(statistics, _statistics(tuned, plan, rows, loaded, described, dtype), provenance=origin)
    shutil.rmtree(work, ignore_errors=True)


def _in_type(loaded: LoadedModel, directory: Path, dtype: str) -> LoadedModel:
    if DTYPES[dtype] == loaded.dtype:
        return loaded
    return load(directory, dtype=dtype, device=str(loaded.device), attention=loaded.attention, digest=loaded.digest)


def _disjoint(documents: list[str], heldout: tuple[Passage, ...], file: Path) -> None:
    whole = "\n".join(documents)
    leaked = [passage.text for passage in heldout if passage.text in whole]
    if leaked:
        raise ConfigError(
            f"esa.train.file: {file} holds {len(leaked)} passage(s) of the held-out text ({leaked[0][:40]!r} ...), "
            "which the result is evaluated on; train on other text"
        )


def _evaluate(loaded: LoadedModel, passages: tuple[Passage, ...], texts: Mapping[str, Any]) -> Evaluation:
    read = nll.tokenise(loaded, [p.text for p in passages])
    return nll.evaluate(loaded, read, batch_size=texts["batch_size"])


def compare(passages: tuple[Passage, ...], before: Evaluation, after: Evaluation, seed: int) -> pd.DataFrame:
    """Likelihoods before and after, by domain; the change has an interval by paired bootstrap over texts.

    Args:
        passages: The texts of both.
        before: Of the model before.
        after: Of the fine-tuned one, on the same texts.
        seed: Of the bootstrap.
    """
    names = np.array([p.domain for p in passages])
    chosen = {ALL: names != TRAINED} | {name: names == name for name in dict.fromkeys(names.tolist())}
    rows = []
    for name, mine in chosen.items():
        tokens = before.tokens[mine]
        means = [float(one.nll_sum[mine].sum() / tokens.sum()) for one in (before, after)]
        change = (after.nll_sum[mine] - before.nll_sum[mine]) / tokens
        low = high = float("nan")
        if mine.sum() > 1 and np.isfinite(change).all():
            interval = Resampler(tokens, seed=seed).interval(change)
            low, high = interval.low, interval.high
        bits = [float(one.nll_sum[mine].sum() / np.log(2) / one.bytes[mine].sum()) for one in (before, after)]
        states = [one.status[i] for one in (before, after) for i in np.flatnonzero(mine)]
        rows.append(
            {
                "domain": name, "texts": int(mine.sum()), "tokens": int(tokens.sum()),
                "status": next((bad for bad in ("nan_logits", "inf_loss") if bad in states), "ok"),
                "nll_before": means[0], "nll_after": means[1], "delta_nll": means[1] - means[0],
                "delta_nll_low": low, "delta_nll_high": high,
                "bits_per_byte_before": bits[0], "bits_per_byte_after": bits[1],
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _losses(tuned: finetune.Tuned, plan: finetune.Plan) -> pd.DataFrame:
    steps = np.arange(len(tuned.losses), dtype=np.int64)
    return pd.DataFrame(
        {
            "step": steps,
            "loss": np.array(tuned.losses),
            "learning_rate": [plan.rate(int(step)) for step in steps],
            "gradient_norm": np.array(tuned.norms),
        }
    )


def _statistics(
    tuned: finetune.Tuned,
    plan: finetune.Plan,
    rows: pd.DataFrame,
    loaded: LoadedModel,
    described: Mapping[str, Any],
    dtype: str,
) -> dict[str, Any]:
    of = rows.set_index("domain")
    tail = tuned.losses[-max(1, len(tuned.losses) // 10) :]
    found = {
        "steps": plan.steps,
        "resumed_from": tuned.resumed,
        "rows": tuned.rows,
        "training_tokens": tuned.tokens,
        "epochs": plan.steps * plan.batch / tuned.rows,
        "first_loss": tuned.losses[0],
        "final_loss": sum(tail) / len(tail),
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "weights_digest_before": loaded.digest,
        "weights_digest_after": described["weights_digest"],
        "dtype": dtype,
    }
    for name, label in ((TRAINED, "training_text"), (ALL, "heldout")):
        keys = ("nll_before", "nll_after", "delta_nll", "delta_nll_low", "delta_nll_high")
        found |= {f"{label}.{key}".replace(".", "_"): float(of.loc[name, key]) for key in keys}
    return found
