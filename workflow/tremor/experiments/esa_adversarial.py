"""esa/adversarial: changes of a prompt that are chosen to hurt, beside random changes of the same size."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tremor.errors import ConfigError
from tremor.evaluate import adversary, token_attack
from tremor.evaluate.adversary import Ids, Question, Reading, Victim
from tremor.evaluate.effects import Resampler
from tremor.evaluate.misspell import misspell
from tremor.experiments import esa_shared
from tremor.experiments.session import Session
from tremor.models import corpus
from tremor.models.loader import LoadedModel
from tremor.progress import track
from tremor.statistics.proportion import wilson
from tremor.store.documents import write_json
from tremor.store.tables import write_csv

EMBEDDING = ("fgsm", "pgd")
TOKENS = ("hotflip", "token_swap")
UNITS = {**dict.fromkeys(EMBEDDING, "epsilon"), "hotflip": "tokens", "token_swap": "pairs"}
TEXT = ("text", "answer", "answer_clean", "prompt", "source", "attack", "role", "unit", "scale", "dtype")


@dataclass(frozen=True, eq=False)
class Trial:
    """An attack on one question and its random counterparts.

    Attributes:
        reading: Of the clean input (row 0), the attacked one (row 1) and the random ones.
        texts: The inputs as text, where they are text; one for each row.
        as_text: Whether that text, tokenised again, gives the very tokens of the row.
        linf: Largest change of an embedding's coordinate, by row; None where tokens changed.
        relative_l2: Norm of the change over norm of the input, by row.
        edits: Edits really made, by row.
    """

    reading: Reading
    texts: Sequence[str | None]
    as_text: Sequence[bool | None]
    linf: Sequence[float | None]
    relative_l2: Sequence[float | None]
    edits: Sequence[int | None]


def measure(
    session: Session,
    *,
    settings: Mapping[str, Any],
    attempts: Path,
    effects: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Attack every prompt in every way.

    Args:
        session: The model on its platform.
        settings: Config block `esa.adversarial`.
        attempts: CSV to write: a row for each attacked or randomly changed prompt.
        effects: CSV to write: a row for each attack and size.
        statistics: JSON to write.
        provenance: Config, code and input digests.

    Raises:
        ConfigError: Nothing is to be attacked.
    """
    loaded: LoadedModel = session.loaded
    victim = Victim(loaded, answer_tokens=settings["answer_tokens"])
    asked = questions(victim, settings)
    allowed = token_attack.usable_tokens(loaded)
    plan = [(a, s) for a in settings["attacks"] for s in settings["epsilons" if a in EMBEDDING else "edits"]]
    rows, clean = [], []
    for number, (source, question) in enumerate(track(asked, "prompts")):
        for index, (attack, size) in enumerate(plan):
            rng = np.random.default_rng([settings["seed"], number, index])
            trial = _trial(victim, question, attack, size, settings, allowed, rng)
            clean.append((number, float(trial.reading.nll[0]), tuple(trial.reading.answers[0])))
            head = {"prompt": question.text, "source": source, "attack": attack, "size": size}
            rows += _rows(loaded, head, trial, settings)
    origin = session.provenance(**provenance, seeds={"adversarial": settings["seed"]})
    table = esa_shared.table(rows, integers=("draw", "edits"), texts=TEXT)
    write_csv(attempts, table, provenance=origin)
    found = [_effect(table, attack, size, settings, loaded) for attack, size in plan]
    write_csv(effects, esa_shared.table(found, integers=("prompts",), texts=TEXT), provenance=origin)
    write_json(statistics, _document(asked, clean, loaded), provenance=origin)


def questions(victim: Victim, settings: Mapping[str, Any]) -> list[tuple[str, Question]]:
    """What is attacked: facts from all relations in turn, then openings of texts.

    Returns:
        Where each comes from (relation or "opener"), and the question.

    Raises:
        ConfigError: There is none, or there are fewer facts than asked for.
    """
    templates = corpus.templates("train")
    by_relation = [corpus.facts(relation) for relation in corpus.RELATIONS]
    turns = [fact for row in itertools.zip_longest(*by_relation) for fact in row if fact is not None]
    if settings["facts"] > len(turns):
        raise ConfigError(f"esa.adversarial.facts is {settings['facts']}, and there are {len(turns)}; lower it")
    found = []
    for fact in turns[: settings["facts"]]:
        prompt = corpus.prompt(fact, templates[fact.relation][0])
        span = prompt.subject_span if settings["protect_subject"] else None
        found.append((fact.relation, victim.question(prompt.text, prompt.answer, protected=span)))
    found += [("opener", victim.question(text, None)) for text in settings["openers"] or ()]
    if not found:
        raise ConfigError("esa.adversarial names no prompt; set facts above 0 or give openers")
    return found


def _trial(
    victim: Victim,
    question: Question,
    attack: str,
    size: float,
    settings: Mapping[str, Any],
    allowed: Ids,
    rng: np.random.Generator,
) -> Trial:
    if attack in EMBEDDING:
        return _on_embeddings(victim, question, attack, size, settings, rng)
    if attack in TOKENS:
        return _on_tokens(victim, question, attack, int(size), settings, allowed, rng)
    return _on_characters(victim, question, attack, int(size), settings, rng)


def _on_embeddings(
    victim: Victim, question: Question, attack: str, size: float, settings: Mapping[str, Any], rng: np.random.Generator
) -> Trial:
    point = victim.embed(question.ids)
    unit = float(point.double().square().mean().sqrt()) if settings["scale"] == "rms" else 1.0
    radius = size * unit
    if attack == "fgsm":
        moved = adversary.fgsm(victim, question, point, radius)
    else:
        moved = adversary.pgd(
            victim, question, point, radius, steps=settings["steps"], step_size=settings["step_size"], rng=rng
        )
    random = adversary.same_size(point, moved, settings["draws"], rng, radius)
    rows = torch.cat([point[None], moved[None], random])
    change = (rows.double() - point.double()).flatten(1)
    norm = float(point.double().norm())
    return Trial(
        reading=victim.read(rows, question.reference),
        texts=[None] * len(rows),
        as_text=[None] * len(rows),
        linf=[float(row.abs().max()) / unit for row in change],
        relative_l2=[float(row.norm()) / norm for row in change],
        edits=[None] * len(rows),
    )


def _on_tokens(
    victim: Victim,
    question: Question,
    attack: Any,
    size: int,
    settings: Mapping[str, Any],
    allowed: Ids,
    rng: np.random.Generator,
) -> Trial:
    worst, made = token_attack.token_attack(
        victim, question, attack, size, candidates=settings["candidates"], allowed=allowed
    )
    random = [
        token_attack.random_tokens(question, attack, made, allowed=allowed, rng=rng) for _ in range(settings["draws"])
    ]
    return _of_ids(victim, question, [question.ids, worst, *random], None, [0, made, *[made] * len(random)])


def _on_characters(
    victim: Victim, question: Question, attack: Any, size: int, settings: Mapping[str, Any], rng: np.random.Generator
) -> Trial:
    def edited(count: int) -> list[tuple[str, int]]:
        return [misspell(question.text, attack, size, question.editable, rng) for _ in range(count)]

    tried = edited(settings["candidates"])
    losses = victim.nll([victim.encode(text) for text, _ in tried], question.reference)
    # NaN is the worst of all.
    worst = tried[int(np.argmax(np.where(np.isnan(losses), np.inf, losses)))]
    texts, made = zip((question.text, 0), worst, *edited(settings["draws"]), strict=True)
    return _of_ids(victim, question, [victim.encode(text) for text in texts], texts, made)


def _of_ids(
    victim: Victim, question: Question, ids: Sequence[Ids], texts: Sequence[str] | None, edits: Sequence[int]
) -> Trial:
    tokenizer = victim.loaded.tokenizer
    if texts is None:
        special = {int(i) for i in tokenizer.all_special_ids}
        texts = [
            _decoded(victim.loaded, np.array([i for i in row if int(i) not in special], dtype=np.int64)) for row in ids
        ]
    return Trial(
        reading=victim.read_ids(ids, question.reference),
        texts=texts,
        as_text=[np.array_equal(victim.encode(text), row) for text, row in zip(texts, ids, strict=True)],
        linf=[None] * len(ids),
        relative_l2=[None] * len(ids),
        edits=edits,
    )


def _rows(
    loaded: LoadedModel, head: Mapping[str, Any], trial: Trial, settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The attacked input and the random ones, each against the clean input that was read beside them."""
    clean, answer = trial.reading.nll[0], trial.reading.answers[0]
    found = []
    for row in range(1, len(trial.reading.nll)):
        delta = float(trial.reading.nll[row] - clean)
        broken = not np.isfinite(delta)
        found.append(
            {
                **head,
                "role": "attack" if row == 1 else "random",
                "draw": None if row == 1 else row - 2,
                "nll_clean": float(clean),
                "delta_nll": None if np.isnan(delta) else delta,
                # NLL is per token, and a model that gives no number has failed as far as it can.
                "nll_success": broken or delta >= settings["success_nll"],
                "changed": bool((trial.reading.answers[row] != answer).any()),
                "linf": trial.linf[row],
                "relative_l2": trial.relative_l2[row],
                "edits": trial.edits[row],
                "as_text": trial.as_text[row],
                "text": trial.texts[row],
                "answer_clean": _decoded(loaded, answer),
                "answer": _decoded(loaded, trial.reading.answers[row]),
            }
        )
    return found


def _decoded(loaded: LoadedModel, ids: Ids) -> str:
    return str(loaded.tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False))


def _effect(
    table: pd.DataFrame, attack: str, size: float, settings: Mapping[str, Any], loaded: LoadedModel
) -> dict[str, Any]:
    """One attack at one size over all prompts; prompts are the units of all intervals."""
    mine = table[(table["attack"] == attack) & (table["size"] == size)]
    attacked, random = mine[mine["role"] == "attack"], mine[mine["role"] == "random"]
    count = len(attacked)
    row: dict[str, Any] = {
        "attack": attack,
        "size": size,
        "unit": UNITS.get(attack, "characters"),
        "scale": settings["scale"] if attack in EMBEDDING else None,
        "prompts": count,
        "nll_clean": float(attacked["nll_clean"].mean()),
    }
    for name, column in (("changed_rate", "changed"), ("nll_rate", "nll_success")):
        hits = int(attacked[column].sum())
        low, high = wilson(hits, count)
        row |= {name: hits / count, f"{name}_low": low, f"{name}_high": high}
        row[f"random_{name}"] = float(random[column].mean())
    own = attacked["delta_nll"].to_numpy(dtype=np.float64)
    # A text may be asked twice: as a fact, and as an opening with another reference.
    by_prompt = random.groupby(["source", "prompt"], sort=False)["delta_nll"].mean().to_numpy(dtype=np.float64)
    return row | _deltas(own, by_prompt) | {
        "linf": attacked["linf"].mean(),
        "relative_l2": attacked["relative_l2"].mean(),
        "edits": attacked["edits"].astype("float64").mean(),
        "as_text_rate": attacked["as_text"].astype("float64").mean(),
        "dtype": str(loaded.dtype).removeprefix("torch."),
    }  # fmt: skip


def _deltas(own: npt.NDArray[np.float64], random: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Mean change of NLL, of random changes, and of the difference, with intervals over prompts where there are any."""
    found: dict[str, float | None] = {}
    for name, values in (("delta_nll", own), ("random_delta_nll", random), ("excess", own - random)):
        finite = bool(np.isfinite(values).all())
        found[name] = None if np.isnan(values).any() else float(values.mean())
        if name == "random_delta_nll":
            continue
        interval = Resampler(np.ones(len(values))).interval(values) if finite and len(values) > 1 else None
        found[f"{name}_low"] = None if interval is None else interval.low
        found[f"{name}_high"] = None if interval is None else interval.high
    return found


def _document(
    asked: Sequence[tuple[str, Question]], clean: Sequence[tuple[int, float, tuple[int, ...]]], loaded: LoadedModel
) -> dict[str, Any]:
    """The questions, and how far one clean input, read in batches of many shapes, differs from itself."""
    found = []
    floor, most = 0.0, 1
    for number, (source, question) in enumerate(asked):
        readings = [entry for entry in clean if entry[0] == number]
        values = [nll for _, nll, _ in readings]
        floor = max(floor, max(values) - min(values))
        answers = len({answer for _, _, answer in readings})
        most = max(most, answers)
        found.append(
            {
                "source": source,
                "text": question.text,
                "tokens": len(question.ids),
                "reference": _decoded(loaded, question.reference),
                "free_tokens": len(question.free),
                "nll_clean": values[0],
                "answer_clean": _decoded(loaded, np.array(readings[0][2], dtype=np.int64)),
                "clean_answers": answers,
            }
        )
    return {"questions": found, "clean_nll_floor": floor, "clean_answers_most": most}
