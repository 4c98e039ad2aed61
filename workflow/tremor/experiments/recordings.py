"""Recordings of a model on a platform: one file for each question, resumable after a kill."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tremor import platform
from tremor.errors import ArtifactError, ConfigError
from tremor.experiments.session import Session
from tremor.progress import Progress
from tremor.record.decode import check_decoder, prompt_ids
from tremor.record.questions import Question, read_questions
from tremor.record.recording import SCHEMA, TapPlan, record, require_space
from tremor.record.taps import choose
from tremor.store.hdf5 import Hdf5Reader

_log = logging.getLogger(__name__)


def measure(
    session: Session,
    *,
    questions: Path,
    settings: Mapping[str, Any],
    decode: str,
    batch: int,
    recordings: Sequence[Path],
    provenance: Mapping[str, Any],
) -> None:
    """Record a model's answers to all questions, or to those that a shard's files are for.

    Finished questions wait in a folder that Snakemake does not know (it deletes the outputs of a job that died), and
    are taken over by the next attempt if they were made by the same code, settings, weights and arithmetic.

    Args:
        session: Model and platform.
        questions: File of the question set.
        settings: The config block ``recorder``.
        decode: "cached" or "uncached".
        batch: Questions in one batch.
        recordings: Files to write, one for each question: all of them, or whole batches of them.
        provenance: Config, code and input digests.

    Raises:
        ConfigError: ``tap_questions`` names a question that is not selected.
        ArtifactError: the disk is too small.
    """
    selected = read_questions(questions, settings["names"])
    loaded = session.loaded
    prompts = [prompt_ids(loaded, question.text) for question in selected]
    plans = _plans(session, settings, selected, prompts[0], decode)
    rows = _share(selected, recordings, batch)
    asked, prompts, plans = selected[rows], prompts[rows], plans[rows]
    folder = recordings[0].parent
    whole = len(asked) == len(selected)
    partial = folder.with_name(f".{folder.name}{'' if whole else f'.{asked[0].stem}'}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    attributes = {**model_attributes(session), "decode": decode, "schema": SCHEMA}
    origin = session.provenance(**provenance)
    batches = [range(start, min(start + batch, len(asked))) for start in range(0, len(asked), batch)]
    keys = [
        _request(session, provenance["code"], settings, decode, batch, [asked[i] for i in group]) for group in batches
    ]
    waiting = [partial / f"{question.stem}.h5" for question in asked]
    todo = [
        (group, key)
        for group, key in zip(batches, keys, strict=True)
        if not all(_finished(waiting[i], key) for i in group)
    ]
    missing = [i for group, _ in todo for i in group]
    lengths = [len(prompts[i]) for i in missing]
    require_space(partial, [plans[i] for i in missing], lengths, loaded, settings["tokens"], batch=batch)
    if len(missing) < len(asked):
        _log.info("%d finished questions of an earlier attempt are taken over", len(asked) - len(missing))
    with Progress(len(missing), "questions") as progress:
        for group, key in todo:
            ids = [prompts[i] for i in group]
            check_decoder(loaded, [*ids, *[ids[-1]] * (batch - len(ids))], decode)  # type: ignore[arg-type]
            record(
                loaded,
                [asked[i] for i in group],
                ids,
                [plans[i] for i in group],
                paths=[waiting[i] for i in group],
                mode=decode,  # type: ignore[arg-type]
                tokens=settings["tokens"],
                rows=batch,
                attributes={**attributes, "request": key},
                provenance=origin,
            )
            progress.advance(len(group))
    for source, target in zip(waiting, recordings, strict=True):
        _hand_over(source, target)
    shutil.rmtree(partial)


def _share(selected: Sequence[Question], recordings: Sequence[Path], batch: int) -> slice:
    """The questions that these files are for; a batch is never cut, for its shape is part of the rounding."""
    stems = [question.stem for question in selected]
    start = stems.index(recordings[0].stem)
    rows = slice(start, start + len(recordings))
    if [path.stem for path in recordings] != stems[rows]:
        raise ValueError("the files are not those of consecutive questions")
    if start % batch or (rows.stop % batch and rows.stop != len(stems)):
        raise ValueError(f"questions {start + 1} to {rows.stop} do not begin and end with a batch of {batch}")
    return rows


def _plans(
    session: Session, settings: Mapping[str, Any], asked: Sequence[Question], ids: Any, decode: str
) -> list[TapPlan]:
    level = settings["taps"]
    taps = choose(session.loaded, level, ids, decode)  # type: ignore[arg-type]
    few = taps if level == "final" else choose(session.loaded, "stages", ids, decode)  # type: ignore[arg-type]
    always = [tap.name for tap in few]
    chosen = settings["tap_questions"]
    known = [question.name for question in asked]
    for name in [] if chosen == "all" else chosen:
        if name not in known:
            raise ConfigError(f"recorder.tap_questions: no selected question is called {name!r}; there is {known}")
    steps = None if settings["tap_steps"] == "all" else int(settings["tap_steps"])
    return [TapPlan(taps if chosen == "all" or question.name in chosen else few, always, steps) for question in asked]


def model_attributes(session: Session) -> dict[str, Any]:
    """What all recordings of a model say of it."""
    anatomy = session.loaded.anatomy
    return {
        "model": session.manifest["alias"],
        "weights_digest": session.manifest["weights_digest"],
        "tokenizer_digest": session.manifest["tokenizer_digest"],
        "dtype": str(session.loaded.dtype).removeprefix("torch."),
        "n_layers": anatomy.n_layers,
        "d_model": anatomy.d_model,
    }


def _request(
    session: Session, code: str, settings: Mapping[str, Any], decode: str, batch: int, group: Sequence[Question]
) -> str:
    """Digest of everything that decides the content of one batch's recordings."""
    content = {
        "code": code,
        "recorder": {key: settings[key] for key in ("tokens", "taps", "tap_questions", "tap_steps")},
        "decode": decode,
        "batch": batch,
        "questions": [[question.name, question.kind, question.text] for question in group],
        "model": {k: session.manifest[k] for k in ("weights_digest", "tokenizer_digest", "config_digest")},
        "numerics": platform.numerics_key(session.fingerprint),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _finished(path: Path, request: str) -> bool:
    """Whether an earlier attempt finished this question; a file that is damaged or of other settings is removed."""
    if not path.is_file():
        return False
    try:
        with Hdf5Reader(path) as file:
            if file.attributes.get("request") == request:
                return True
    except ArtifactError as error:
        _log.warning("recorded again: %s", error)
    path.unlink()
    return False


def _hand_over(source: Path, target: Path) -> None:
    """Put a finished file in its place; the source stays until all are there, in case this is interrupted too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        target.unlink()
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
