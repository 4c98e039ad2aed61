"""cross: with the weights changed that scores name, are spectrum, noise floor and stability boundary still the same?"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.errors import NumericsError
from tremor.evaluate import effects, nll
from tremor.evaluate import texts as choosing
from tremor.experiments.cross_lists import Listed, lists, plans
from tremor.experiments.cross_readings import NAN, Examiner, Plan, Reading
from tremor.experiments.nudges import open_base
from tremor.experiments.session import Session
from tremor.progress import track
from tremor.statistics import cross as statistics_of
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.tables import write_csv
from tremor.weights import mutate
from tremor.weights.mutate import Edit, Operation

OPERATIONS: dict[str, Operation] = {
    "zero": mutate.zero,
    "mean": mutate.mean,
    "sign": mutate.sign,
    "halve": mutate.scale(0.5),
    "double": mutate.scale(2.0),
}


def measure(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    probe: Mapping[str, Any],
    spectrum_settings: Mapping[str, Any],
    settings: Mapping[str, Any],
    spectrum: Path,
    rankings: Path | None,
    supers: Path | None,
    table: Path,
    controls: Path,
    data: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Change, measure, put back; for every set and its random controls.

    Args:
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        probe: Config block ``probe``.
        spectrum_settings: Config block ``spectrum``.
        settings: Config block ``cross``.
        spectrum: Spectrum of the clean model at this prompt.
        rankings: Rankings of critical_weights; None where no score of it is asked for.
        supers: Lists of esa/super-weights; None where none is asked for.
        table: CSV to write: one row for each set.
        controls: CSV to write: one row for each control.
        data: HDF5 to write: singular values and boundaries of every set.
        statistics: JSON to write.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: An ancestor is of another model.
        ConfigError: No list names a weight.
        NumericsError: A mutation changed nothing, or the restored model is not the clean one, bit for bit.
    """
    _, source = open_base(session, prompt, spectrum)
    found = lists(session, rankings, supers, settings)
    examiner = open_examiner(session, prompt, probe, spectrum_settings, settings, source.array("right"))
    clean = examiner.read(deep=True)
    if clean.status != "ok" or clean.nll_status != "ok":
        raise NumericsError(f"the unchanged model is {clean.status}, {clean.nll_status}; use a wider probe.dtype")
    rows, drawn, readings = [], [], []
    for listed, k, operation in track(plans(found, settings), description="sets"):
        reading, changed = examine(examiner, listed.weights.head(k), OPERATIONS[operation])
        own = list(_controls(examiner, listed, k, operation, settings))
        names = {"source": listed.source, "score": listed.score, "topk": k, "operation": operation}
        rows.append({**names, **_row(examiner, clean, reading, own, listed.weights.head(k), changed)})
        drawn += [{**names, "draw": draw, **_described(clean, one, deep)} for draw, (one, deep) in enumerate(own)]
        readings.append(reading)
    lost = examiner.read(deep=True).differences(clean)
    if lost:
        raise NumericsError(
            f"the restored model gives another {lost[0]} than before; effects cannot be told from noise here: set "
            "probe.threads to 1 or choose a deterministic platform"
        )
    frame = _typed(pd.DataFrame(rows))
    seeds = {"controls": int(settings["control_seed"]), "noise": int(settings["noise_seed"])}
    origin = session.provenance(**provenance, seeds=seeds)
    write_csv(table, frame, provenance=origin)
    write_csv(controls, _typed(pd.DataFrame(drawn)), provenance=origin)
    write_hdf5(data, _arrays(examiner, clean, readings), attributes=_attributes(examiner), provenance=origin)
    document = {
        "clean": {**clean.numbers(), **_others(clean), "nll_status": clean.nll_status},
        "restored_equals_clean": True,
        "sets": len(frame),
        "lists": {f.score: {"source": f.source, "named": f.named, "taken": len(f.weights)} for f in found},
        "heldout_texts": len(examiner.texts),
        "heldout_tokens": int(examiner.texts.tokens.sum()),
        **_attributes(examiner),
        **statistics_of.findings(frame),
    }
    write_json(statistics, document, provenance=origin)


def open_examiner(
    session: Session,
    prompt: Mapping[str, Any],
    probe: Mapping[str, Any],
    spectrum_settings: Mapping[str, Any],
    settings: Mapping[str, Any],
    right: Any,
) -> Examiner:
    """The examiner of a session's model, with the settings of the config."""
    plan = Plan(
        text=prompt["text"],
        bos=prompt["bos"],
        spectrum=dict(spectrum_settings),
        top_k=settings["top_k"],
        mode=probe["mode"],
        batch_size=settings["batch_size"],
        repeats=probe["aa_repeats"],
        max_memory=session.max_memory,
        noise_samples=settings["noise_samples"],
        noise_seed=settings["noise_seed"],
        angles=settings["angles"],
        s_max=settings["s_max"],
        max_evaluations=settings["max_evaluations"],
        arithmetic=settings["arithmetic"],
        own_directions=settings["recompute_directions"],
    )
    texts = nll.tokenise(session.loaded, [p.text for p in choosing.passages("heldout", settings["texts"])])
    return Examiner(session.loaded, plan, right, texts, text_batch_size=settings["text_batch_size"])


def examine(
    examiner: Examiner, weights: pd.DataFrame, operation: Operation, *, deep: bool = True, allow_unchanged: bool = False
) -> tuple[Reading, int]:
    """The reading with some weights changed, and how many hold other bits; they are put back.

    Raises:
        NumericsError: Nothing changed, unless that is allowed or all of them were zero.
    """
    edits = mutate.edits_at(weights["tensor"].tolist(), weights["flat_index"].tolist())
    return _examine(examiner, edits, operation, deep=deep, allow_unchanged=allow_unchanged)


def _examine(
    examiner: Examiner, edits: Sequence[Edit], operation: Operation, *, deep: bool, allow_unchanged: bool
) -> tuple[Reading, int]:
    with mutate.mutated(examiner.loaded, edits, operation, allow_unchanged=allow_unchanged or "zeros") as record:
        return examiner.read(deep=deep), record.changed


def _controls(
    examiner: Examiner, listed: Listed, k: int, operation: str, settings: Mapping[str, Any]
) -> Iterator[tuple[Reading, bool]]:
    """Readings of random sets of as many weights of the same tensors; the same sets for every operation."""
    chosen = listed.weights.head(k)
    tensors = chosen["tensor"].tolist()
    sizes = {name: examiner.loaded.anatomy.parameter(name).numel() for name in dict.fromkeys(tensors)}
    rng = np.random.default_rng([settings["control_seed"], zlib.crc32(listed.score.encode()), k])
    for draw in range(settings["controls"]):
        random = effects.matched_control(tensors, chosen["flat_index"], sizes, rng)
        edits = mutate.edits_at(random.tensors, random.flat_index.tolist())
        deep = draw < settings["deep_controls"]
        # A random weight may already be zero; that is a control too.
        yield _examine(examiner, edits, OPERATIONS[operation], deep=deep, allow_unchanged=True)[0], deep


def _row(
    examiner: Examiner,
    clean: Reading,
    reading: Reading,
    own: Sequence[tuple[Reading, bool]],
    chosen: pd.DataFrame,
    changed: int,
) -> dict[str, Any]:
    numbers = [{**one.numbers(), "deep": deep} for one, deep in own]
    known = reading.status == "ok"
    return {
        "weights_changed": changed,
        "inside": int((chosen["block"] >= 0).sum()),
        "tensors": int(chosen["tensor"].nunique()),
        "status": reading.status,
        "nll_status": reading.nll_status,
        "sigma_1": reading.sigma_1,
        "floor": reading.floor,
        "boundary": reading.boundary,
        "nll": reading.nll,
        **statistics_of.judged(clean.numbers(), reading.numbers(), numbers),
        **_beside(clean, reading),
        "rays": len(examiner.directions),
        "rays_changed": int(np.sum(reading.max_s != clean.max_s)) if known else 0,
        "certified_rays": int(reading.certified.sum()),
        "censored_rays": int(reading.censored.sum()),
        "token": reading.token,
        "token_text": examiner.loaded.tokenizer.decode([reading.token]) if known else None,
        "token_changed": reading.token != clean.token,
        "controls": len(own),
        "deep_controls": sum(deep for _, deep in own),
        "dtype": examiner.base.fmt,
        "mode": examiner.plan.mode,
    }


def _beside(clean: Reading, reading: Reading) -> dict[str, float]:
    """What is told of a set without controls: rank, direction, state and margin."""
    names = ("stable_rank", "stable_rank_change", "v1_cosine", "state_shift", "margin", "margin_change")
    if reading.status != "ok":
        return dict.fromkeys(names, NAN)
    state, before = reading.state.astype(np.float64), clean.state.astype(np.float64)
    values = (
        reading.stable_rank,
        statistics_of.change(clean.stable_rank, reading.stable_rank, relative=True),
        float(abs(reading.leading @ clean.leading)),
        float(np.linalg.norm(state - before) / np.linalg.norm(before)),
        reading.margin,
        reading.margin - clean.margin,
    )
    return dict(zip(names, values, strict=True))


def _described(clean: Reading, reading: Reading, deep: bool) -> dict[str, Any]:
    """One control as a row: its values and their changes."""
    row: dict[str, Any] = {**reading.numbers(), "deep": deep, "nll_status": reading.nll_status}
    before = clean.numbers()
    for name, relative in statistics_of.JUDGED.items():
        column = "delta_nll" if name == "nll" else f"{name}_change"
        row[column] = statistics_of.change(before[name], row[name], relative=relative)
    return row


def _others(reading: Reading) -> dict[str, Any]:
    return {
        "stable_rank": None if np.isnan(reading.stable_rank) else reading.stable_rank,
        "floor_changed": reading.floor_changed,
        "token": reading.token,
        "margin": reading.margin,
        "singular_values": reading.singular_values.tolist(),
        "certified_rays": int(reading.certified.sum()),
        "censored_rays": int(reading.censored.sum()),
    }


def _arrays(examiner: Examiner, clean: Reading, readings: Sequence[Reading]) -> dict[str, Any]:
    """Datasets: the clean model's, and one row for each set; NaN where a model has no finite state."""

    def rows(name: str) -> Any:
        before = getattr(clean, name)
        return np.stack([
            found if len(found := getattr(r, name)) else np.full(before.shape, np.nan, before.dtype) for r in readings
        ])  # fmt: skip

    return {
        "ids": examiner.base.ids,
        "x0": examiner.base.x,
        "theta": examiner.theta,
        "direction": examiner.directions,
        "clean_singular_values": clean.singular_values,
        "clean_max_s": clean.max_s,
        "clean_state": clean.state,
        "singular_values": rows("singular_values"),
        "max_s": rows("max_s"),
    }


def _attributes(examiner: Examiner) -> dict[str, Any]:
    plan = examiner.plan
    return {
        "prompt": plan.text,
        "dtype": examiner.base.fmt,
        "mode": plan.mode,
        "batch_size": plan.batch_size if plan.mode == "batched" else 1,
        "arithmetic": plan.arithmetic,
        "s_max": plan.s_max,
        "rays": len(examiner.directions),
        "recompute_directions": plan.own_directions,
    }


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Infinite control moments and missing values are floats, whatever the rows held."""
    for name in frame.columns:
        if frame[name].isna().all():
            frame[name] = frame[name].astype("float64")
    return frame
