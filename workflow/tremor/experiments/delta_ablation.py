"""Delta study of neurons: choose units for each relation, ablate them, and keep what every sentence says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tremor.errors import ArtifactError, ConfigError
from tremor.evaluate import facts, relations
from tremor.evaluate.facts import Scores, TextSet
from tremor.evaluate.relations import Role, Sentence
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.neurons import select, sites
from tremor.neurons.sites import Site
from tremor.progress import Progress
from tremor.store.hdf5 import read_hdf5, write_hdf5
from tremor.store.tables import read_csv, write_csv
from tremor.weights.activations import Reference, ablation

RANDOM = "random"


def located(settings: Mapping[str, Any], files: Sequence[Path]) -> dict[str, Any]:
    """Block `delta.facts` with the file of its sentences where the workflow found it: the first of a rule's inputs."""
    return {**settings, "source": "tables" if settings["source"] == "tables" else str(files[0])}


def sentences(settings: Mapping[str, Any], role: Role) -> tuple[Sentence, ...]:
    """The sentences of block `delta.facts` for selection or evaluation.

    Raises:
        ConfigError: Relations that the source does not have.
        ArtifactError: A malformed file.
    """
    wanted = list(settings["relations"])
    if settings["source"] == "tables":
        return relations.from_tables(wanted, facts=int(settings["facts"]), role=role)
    return relations.from_file(Path(settings["source"]), wanted)


def places(loaded: LoadedModel, settings: Mapping[str, Any]) -> list[tuple[str, Site]]:
    """Places of this model for block `delta.neurons`, with the name of their layer in the configuration."""
    found = []
    for name, layer in sites.layers(loaded, settings["layers"]):
        kinds = list(settings["taps"])
        # The configuration asks for these of models that have them; a model without is no mistake.
        if loaded.anatomy.block_parts[layer].mixer_kind == "ssm":
            kinds += list(settings["state_space_taps"])
        found += [(name, sites.site(loaded, kind, layer)) for kind in kinds]
    return found


def fitting(selectors: Sequence[str], place: Site) -> list[str]:
    """Selectors that read something at a place."""
    return [name for name in selectors if name != "decay" or place.kind == "delta"]


def options(settings: Mapping[str, Any]) -> select.Options:
    """Settings of the selectors from block `delta.neurons`."""
    return select.Options(
        steps=int(settings["integration_steps"]),
        candidates=settings["candidates"],
        sample=int(settings["reference_tokens"]),
        seed=int(settings["seed"]),
    )


def choose(
    session: Session,
    *,
    fact_settings: Mapping[str, Any],
    settings: Mapping[str, Any],
    table: Path,
    reference: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Choose units for every relation, place and selector, and write them with what they are like on ordinary text.

    Args:
        session: The model.
        fact_settings: Block `delta.facts`.
        settings: Block `delta.neurons`.
        table: CSV to write, one row a unit.
        reference: HDF5 to write: mean, std and a sample of tokens for each place.
        provenance: Config, code and input digests.
    """
    loaded = session.loaded
    texts = text_set(loaded, fact_settings, sentences(fact_settings, "select"))
    where = places(loaded, settings)
    own = options(settings)
    chosen = select.Selection(loaded, texts, [place for _, place in where], settings["selectors"], own)
    rows: list[dict[str, Any]] = []
    tasks = [(n, p, s, r) for n, p in where for s in fitting(settings["selectors"], p) for r in _relations(texts)]
    with Progress(len(tasks), "choices") as progress:
        for name, place, selector, relation in tasks:
            scores = chosen.scores(selector, place, relation)
            head = {
                "layer_name": name, "layer": place.layer, "tap": place.kind, "selector": selector,
                "relation": relation, "key": _key(session, texts, place, selector, relation, settings),
                "width": len(scores), "completeness_error": chosen.completeness.get((place, relation), np.nan)
                if selector == "integrated" else np.nan,
            }  # fmt: skip
            units = select.top(scores, int(settings["top_k"]))
            rows += [{**head, "rank": i + 1, "unit": int(u), "score": float(scores[u])} for i, u in enumerate(units)]
            progress.advance()
    origin = session.provenance(**provenance, seeds={"reference": own.seed})
    write_csv(table, pd.DataFrame(rows), provenance=origin)
    arrays: dict[str, Any] = {}
    for _, place in where:
        kept = chosen.collected[place].reference
        arrays |= {f"{part}/{place.tap}": getattr(kept, part).numpy() for part in ("mean", "std", "sample")}
    write_hdf5(reference, arrays, attributes={"texts": texts.digest}, provenance=origin)


def text_set(loaded: LoadedModel, settings: Mapping[str, Any], rows: Sequence[Sentence]) -> TextSet:
    """Tokenise as block `delta.facts` says."""
    return facts.tokenise(loaded, rows, bos=settings["bos"], batch_tokens=int(settings["batch_tokens"]))


def _relations(texts: TextSet) -> list[str]:
    return list(dict.fromkeys(s.relation for s in texts.sentences))


def _key(
    session: Session, texts: TextSet, place: Site, selector: str, relation: str, settings: Mapping[str, Any]
) -> str:
    own = options(settings)
    return select.key(
        weights=session.loaded.digest,
        revision=session.manifest.get("revision"),
        relation=relation,
        layer=place.layer,
        tap=place.kind,
        selector=selector,
        k=int(settings["top_k"]),
        texts=texts.digest,
        options={"steps": own.steps, "candidates": own.candidates, "dtype": str(session.loaded.dtype)},
    )


def ablate(
    session: Session,
    *,
    fact_settings: Mapping[str, Any],
    neuron_settings: Mapping[str, Any],
    settings: Mapping[str, Any],
    neurons: Path,
    reference: Path,
    data: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Ablate every choice of units and as many random ones, and write the scores of every sentence under each.

    Args:
        session: The model.
        fact_settings: Block `delta.facts`.
        neuron_settings: Block `delta.neurons`.
        settings: Mode, strength, controls and seed of block `delta.percentage`.
        neurons: Table of `choose`.
        reference: File of `choose`.
        data: HDF5 to write.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: The chosen units are those of another model, other texts or other settings.
    """
    loaded = session.loaded
    rows = (*sentences(fact_settings, "evaluate"), *relations.others(int(fact_settings["other"])))
    texts = text_set(loaded, fact_settings, rows)
    where = places(loaded, neuron_settings)
    table = _checked(session, read_csv(neurons), neurons, fact_settings, neuron_settings, where)
    clean = facts.evaluate(loaded, texts)
    parts: list[dict[str, Any]] = []
    for name, place in where:
        parts += _ablations(name, place, table, settings)
    found: dict[tuple[Site, tuple[int, ...]], Scores] = {}
    with Progress(len(parts), "ablations") as progress:
        for place in dict.fromkeys(part["place"] for part in parts):
            known = _reference(reference, place)
            kept = facts.keep(loaded, texts, place.start)
            for part in (p for p in parts if p["place"] is place):
                if (place, part["units"]) not in found:
                    change = ablation(
                        place.tap,
                        part["units"],
                        mode=settings["mode"],
                        strength=float(settings["strength"]),
                        reference=known,
                        seed=int(settings["seed"]),
                    )
                    found[place, part["units"]] = facts.evaluate(loaded, texts, changes={place.tap: change}, kept=kept)
                progress.advance()
    scores = [found[part["place"], part["units"]] for part in parts]
    origin = session.provenance(**provenance, seeds={"controls": int(settings["seed"])})
    attributes = {"mode": settings["mode"], "strength": float(settings["strength"]), "texts": texts.digest}
    write_hdf5(data, {**_text_columns(texts), **_scores(clean, scores), **_heads(parts)}, attributes=attributes,
               provenance=origin)  # fmt: skip


def _checked(
    session: Session,
    table: pd.DataFrame,
    path: Path,
    fact_settings: Mapping[str, Any],
    settings: Mapping[str, Any],
    where: Sequence[tuple[str, Site]],
) -> pd.DataFrame:
    """Refuse choices whose keys are not those that would be made now."""
    texts = text_set(session.loaded, fact_settings, sentences(fact_settings, "select"))
    expected = {
        _key(session, texts, place, selector, relation, settings)
        for _, place in where
        for selector in fitting(settings["selectors"], place)
        for relation in _relations(texts)
    }
    if set(table["key"]) != expected:
        raise ArtifactError(
            f"{path} holds units that were chosen for another model, text or setting; delete it and run snakemake again"
        )
    return table


def _ablations(name: str, place: Site, table: pd.DataFrame, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    own = table[(table["layer"] == place.layer) & (table["tap"] == place.kind)]
    head = {"place": place, "layer_name": name}
    parts: list[dict[str, Any]] = [
        {**head, "selector": str(selector), "relation": str(relation), "units": tuple(int(u) for u in rows["unit"])}
        for (selector, relation), rows in own.groupby(["selector", "relation"], sort=False)
    ]
    if not parts:
        raise ConfigError(f"no selector of delta.neurons.selectors fits tap {place.kind}; add one, or leave it out")
    width, k = int(own["width"].iloc[0]), len(parts[0]["units"])
    drawn = select.controls(width, k, int(settings["controls"]), int(settings["seed"]))
    return parts + [
        {**head, "selector": RANDOM, "relation": str(i), "units": tuple(int(u) for u in units)}
        for i, units in enumerate(drawn)
    ]


def _reference(path: Path, place: Site) -> Reference:
    found = read_hdf5(path, names=[f"{part}/{place.tap}" for part in ("mean", "std", "sample")])
    mean, std, sample = (torch.from_numpy(found.array(f"{p}/{place.tap}").copy()) for p in ("mean", "std", "sample"))
    return Reference(mean, std, sample)


def _strings(values: Sequence[str]) -> Any:
    return np.array(list(values), dtype=object)


def _text_columns(texts: TextSet) -> dict[str, Any]:
    return {
        f"text/{name}": _strings([getattr(s, name) for s in texts.sentences])
        for name in ("relation", "split", "text", "subject", "answer")
    }


def _scores(clean: Scores, ablated: Sequence[Scores]) -> dict[str, Any]:
    changing = ("nll_sum", "answer_logprob", "answer_rank", "recalled")
    found = {f"clean/{name}": getattr(clean, name) for name in (*changing, "tokens", "answer_tokens")}
    return found | {f"ablated/{name}": np.stack([getattr(s, name) for s in ablated]) for name in changing}


def _heads(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {f"ablation/{n}": _strings([p[n] for p in parts]) for n in ("layer_name", "selector", "relation")}
    found["ablation/tap"] = _strings([p["place"].kind for p in parts])
    found["ablation/layer"] = np.array([p["place"].layer for p in parts], dtype=np.int64)
    found["ablation/units"] = np.array([p["units"] for p in parts], dtype=np.int64)
    return found
