"""Causal tracing of facts: every state, by layer and position, put back after the subject was made unreadable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.errors import ModelError
from tremor.evaluate import facts
from tremor.experiments.delta_ablation import sentences, text_set
from tremor.experiments.session import Session
from tremor.neurons import sites
from tremor.neurons.tracing import Trace, Tracer
from tremor.progress import Progress
from tremor.store.documents import write_json
from tremor.store.tables import write_csv


def measure(
    session: Session,
    *,
    fact_settings: Mapping[str, Any],
    settings: Mapping[str, Any],
    table: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Trace facts of one model.

    Args:
        session: The model.
        fact_settings: Block `delta.facts`, whose relations give way to those of `settings`.
        settings: Block `delta.tracing`.
        table: CSV to write: a row for each fact, kind of state, layer and position.
        statistics: JSON to write: how many facts were tried and known.
        provenance: Config, code and input digests.

    Raises:
        ModelError: The model knows none of the facts.
    """
    loaded = session.loaded
    wanted = {**fact_settings, "relations": settings["relations"]}
    # The first wording that is evaluated: train templates of the tables, or the file's sentences.
    asked = [s for s in sentences(wanted, "evaluate") if s.split != "heldout"]
    asked = [s for s in asked if s.subject_span and s.answer_span and s.subject_span[1] <= s.answer_span[0]]
    texts = text_set(loaded, wanted, asked)
    clean = facts.evaluate(loaded, texts)
    known = [i for i in range(len(texts)) if clean.recalled[i] or not settings["recalled_only"]]
    if not known:
        raise ModelError(
            f"the model knows none of the {len(texts)} facts of {', '.join(settings['relations'])}: choose other "
            "delta.tracing.relations, or set delta.tracing.recalled_only: false"
        )
    # Every block of a Mamba lacks an MLP; what a model does not have is not traced, and its table has no such rows.
    kinds = [kind for kind in settings["kinds"] if kind != "mlp" or "mlp" in loaded.anatomy.block_parts[0].taps]
    layers = [layer for _, layer in sites.layers(loaded, settings["layers"])]
    tracer = Tracer(loaded, noise=float(settings["noise"]), seed=int(settings["seed"]))
    chosen = known[: int(settings["facts"])]
    frames = []
    with Progress(len(chosen), "facts") as progress:
        for number in chosen:
            trace = tracer.trace(
                texts, number, kinds=kinds, layers=layers, draws=int(settings["draws"]), window=int(settings["window"])
            )
            frames.append(_rows(trace, texts.sentences[number], kinds, layers))
            progress.advance()
    origin = session.provenance(**provenance, seeds={"noise": int(settings["seed"])})
    write_csv(table, pd.concat(frames, ignore_index=True), provenance=origin)
    write_json(
        statistics,
        {"asked": len(texts), "known": int(clean.recalled.sum()), "traced": len(chosen), "kinds": kinds,
         "layers": loaded.anatomy.n_layers, "noise_std": tracer.scale},
        provenance=origin,
    )  # fmt: skip


def _rows(trace: Trace, sentence: Any, kinds: list[str], layers: list[int]) -> pd.DataFrame:
    restored = trace.restored.mean(axis=-1)
    shape = restored.shape
    index = np.indices(shape).reshape(3, -1)
    spread = trace.restored.std(axis=-1, ddof=1) if trace.restored.shape[-1] > 1 else np.full(shape, np.nan)
    return pd.DataFrame(
        {
            "relation": sentence.relation,
            "text": sentence.text,
            "subject": sentence.subject,
            "answer": sentence.answer,
            "kind": [kinds[i] for i in index[0]],
            "layer": [layers[i] for i in index[1]],
            "position": index[2],
            "token": [trace.tokens[i] for i in index[2]],
            "role": [trace.roles[i] for i in index[2]],
            "clean_logprob": trace.clean,
            "corrupted_logprob": float(trace.corrupted.mean()),
            "restored_logprob": restored.reshape(-1),
            "restored_std": spread.reshape(-1),
        }
    )
