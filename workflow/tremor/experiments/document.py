"""pdf: every word of a document under a model, from one teacher-forced pass in windows."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tremor.documents import scoring, windows
from tremor.documents.align import words_of_tokens
from tremor.documents.table import document_statistics, word_table
from tremor.documents.text import Document, read_pdf
from tremor.experiments.session import Session
from tremor.progress import Progress
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.partial import Parts
from tremor.store.tables import write_csv


def measure(
    session: Session,
    source: Path,
    settings: Mapping[str, Any],
    *,
    data: Path,
    table: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Score a document.

    Args:
        session: The loaded model.
        source: The PDF file.
        settings: Keys window, stride, bos, batch_size and checkpoint of the config block ``pdf``.
        data: HDF5 file to write: all arrays by token.
        table: CSV file to write, one row for each word.
        statistics: JSON file to write.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: the document cannot be read.
        PromptError: nothing in it can be scored, or the window is longer than the model's context.
        ConfigError: the stride does not fit the window.
        NumericsError: a logit is NaN or infinite.
    """
    loaded = session.loaded
    document = read_pdf(source)
    ids, offsets = scoring.tokenise(loaded, document.text)
    owner, shared = words_of_tokens(offsets, document.words, document.text)
    window = scoring.window_length(loaded, settings["window"])
    stride = window // 2 if settings["stride"] == "auto" else int(settings["stride"])
    bos = scoring.begin_token(loaded, settings["bos"])
    planned = windows.plan(len(ids), window=window, stride=stride, bos=bos is not None)
    groups = windows.batches(planned, int(settings["batch_size"]))
    key = {
        "ids": hashlib.sha256(ids.tobytes()).hexdigest(),
        "bos": bos,
        "windows": [[(w.start, w.stop, w.first) for w in group] for group in groups],
        "checkpoint": settings["checkpoint"],
        "dtype": str(loaded.dtype),
        "weights": session.manifest["weights_digest"],
        "platform": session.fingerprint,
        "code": provenance["code"],
    }
    parts = Parts(data.with_name(data.stem + ".partial"), key)
    arrays = _score(session, ids, groups, parts, bos=bos, per_part=int(settings["checkpoint"]))
    pieces = [str(loaded.tokenizer.decode([int(i)])) for i in ids]
    origin = session.provenance(**provenance)
    attributes = {
        "window": window,
        "stride": stride,
        "bos": bos,
        "batch_size": len(groups[0]),
        "windows": len(planned),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "pages": document.pages,
        "tap": "final",
    }
    datasets = {
        **arrays,
        "ids": ids,
        "word": owner,
        "piece": np.array(pieces, dtype=object),
        "first_character": np.array([start for start, _ in offsets], dtype=np.int64),
    }
    words = word_table(document, ids, owner, shared, arrays, pieces, _decoded(loaded, arrays["top_ids"]))
    write_hdf5(data, datasets, attributes=attributes, provenance=origin)
    write_csv(table, words, provenance=origin)
    summary = {**document_statistics(document, ids, arrays, words), **attributes, **_bits(document, arrays)}
    write_json(statistics, summary, provenance=origin)
    parts.clear()


def _score(
    session: Session,
    ids: Any,
    groups: Sequence[Sequence[windows.Window]],
    parts: Parts,
    *,
    bos: int | None,
    per_part: int,
) -> dict[str, Any]:
    """All arrays by token; parts that a killed job has left are taken over."""
    found = []
    with Progress(sum(len(dict.fromkeys(group)) for group in groups), "windows") as progress:
        for number, start in enumerate(range(0, len(groups), per_part)):
            own = groups[start : start + per_part]
            part = parts.load(number)
            if part is None:
                scored = []
                answers = scoring.score(session.loaded, ids, own, bos=bos, max_memory=session.max_memory)
                for group, answer in zip(own, answers, strict=True):
                    scored.append(answer)
                    progress.advance(len(dict.fromkeys(group)))
                part = _joined(scored)
                parts.save(number, part)
            else:
                progress.advance(sum(len(dict.fromkeys(group)) for group in own))
            found.append(part)
    return _joined(found)


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _decoded(loaded: Any, ids: Any) -> dict[int, str]:
    """Text of each token that was predicted; one by one, so that spaces at its start stay."""
    return {int(i): str(loaded.tokenizer.decode([int(i)])) for i in np.unique(ids)}


def _bits(document: Document, arrays: Mapping[str, Any]) -> dict[str, float]:
    """Information of the scored tokens, relative to the characters of the whole text."""
    bits = -float(np.sum(arrays["log_probability"])) / float(np.log(2.0))
    return {
        "bits_per_character": bits / len(document.text),
        "bits_per_byte": bits / len(document.text.encode("utf-8")),
    }
