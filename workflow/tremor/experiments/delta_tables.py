"""Tables of the delta study of neurons, from the ablation files of all models. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.errors import ArtifactError
from tremor.models.corpus import RELATIONS
from tremor.statistics import ablation as effects
from tremor.statistics.ablation import Part
from tremor.store.hdf5 import read_hdf5

GROUP = ["layer_name", "layer", "tap", "selector"]
OTHER, RANDOM = "other", "random"
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ablations:
    """The ablation file of one model: sentences, and their scores under each ablation."""

    model: str
    columns: Mapping[str, Any]

    def text(self, name: str) -> npt.NDArray[Any]:
        """A column of the sentences, as text."""
        return np.asarray(self.columns[f"text/{name}"]).astype(str)

    def heads(self) -> pd.DataFrame:
        """The ablations, random ones included."""
        names = ("layer_name", "layer", "tap", "selector", "relation")
        return pd.DataFrame({n: list(self.columns[f"ablation/{n}"]) for n in names})

    @property
    def units(self) -> int:
        """Units of each ablation."""
        return int(self.columns["ablation/units"].shape[1])

    def part(self, row: int, controls: Sequence[int], texts: Rows) -> Part:
        """Likelihoods of some sentences under one ablation and its controls."""
        changed = self.columns["ablated/nll_sum"]
        return Part(
            nll=self.columns["clean/nll_sum"][texts],
            changed=changed[row, texts],
            controls=changed[np.ix_(np.asarray(controls, dtype=np.intp), texts)],
            tokens=self.columns["clean/tokens"][texts].astype(np.float64),
        )

    def wordings(self) -> list[str]:
        """Kinds of sentences that state facts."""
        return [s for s in dict.fromkeys(self.text("split")) if s != "passage"]

    def where(self, relation: str, split: str) -> Rows:
        """Numbers of the sentences of a relation in one wording."""
        return np.flatnonzero((self.text("relation") == relation) & (self.text("split") == split))

    def choices(self) -> Iterator[tuple[int, Mapping[str, Any], list[int]]]:
        """Each ablation of chosen units: its row, its names, and the rows of its controls."""
        heads = self.heads()
        random = heads["selector"] == RANDOM
        for row in heads.index[~random]:
            names = heads.loc[row]
            same = random & (heads["layer"] == names["layer"]) & (heads["tap"] == names["tap"])
            yield int(row), {str(k): v for k, v in names.items()}, [int(i) for i in heads.index[same]]


def read(models: Sequence[str], paths: Sequence[Path]) -> list[Ablations]:
    """Read the ablation files of some models.

    Raises:
        ArtifactError: A file is damaged, or the models were not asked the same sentences.
    """
    found = [Ablations(model, read_hdf5(path).datasets) for model, path in zip(models, paths, strict=True)]
    first = found[0].text("text")
    for other, path in zip(found, paths, strict=True):
        if list(other.text("text")) != list(first):
            raise ArtifactError(f"{path} holds other sentences than {paths[0]}; delete it and run snakemake again")
    return found


def percentage(all_models: Sequence[Ablations], settings: Mapping[str, Any]) -> pd.DataFrame:
    """One row for each model, layer, tap, selector, relation and wording, with ratios of the first model to it.

    Args:
        all_models: The models, the one that ratios refer to first.
        settings: `bootstrap`, `confidence` and `seed` of block `delta.percentage`.
    """
    options = {
        "draws": int(settings["bootstrap"]),
        "seed": int(settings["seed"]),
        "confidence": float(settings["confidence"]),
    }
    rows = [
        {"model": own.model, **names, "wording": wording, **_effect(own, row, controls, names, wording, options)}
        for own in all_models
        for row, names, controls in own.choices()
        for wording in own.wordings()
    ]
    return _with_ratios(pd.DataFrame(rows), all_models[0].model)


def _effect(
    own: Ablations, row: int, controls: Sequence[int], names: Mapping[str, Any], wording: str, options: dict[str, Any]
) -> dict[str, Any]:
    relation = str(names["relation"])
    texts, passages = own.where(relation, wording), own.where(OTHER, "passage")
    part, other = own.part(row, controls, texts), own.part(row, controls, passages)
    rest = [own.part(row, [], own.where(r, wording)).delta for r in relations(own) if r != relation]
    clean, changed = own.columns["clean/answer_logprob"], own.columns["ablated/answer_logprob"]
    ranks, known = own.columns["ablated/answer_rank"], own.columns["ablated/recalled"]
    return {
        "relation_name": RELATIONS.get(relation, relation),
        "units": own.units,
        **effects.likelihood(part, **options),
        **effects.against_controls(part.delta, part.control_deltas, "control"),
        "other_baseline_ppl": float(np.exp(other.baseline)),
        "other_perturbed_ppl": float(np.exp(other.perturbed)),
        "other_delta_nll": other.delta,
        "other_percentage_change": other.percentage,
        "other_relations_delta_nll": float(np.mean(rest)) if rest else float("nan"),
        "selectivity": effects.selectivity(part.percentage, other.percentage),
        "selectivity_nll": part.delta - other.delta,
        # Random units too cost facts more than plain text; only what exceeds that is the choice's doing.
        **{
            f"selectivity_{name}": value
            for name, value in effects.against_controls(
                part.delta - other.delta, part.control_deltas - other.control_deltas, "control"
            ).items()
            if name.endswith(("_mean", "_p"))
        },
        **effects.answers(clean[texts], changed[row, texts], changed[np.ix_(np.asarray(controls), texts)], **options),
        "answer_rank_median": float(np.median(own.columns["clean/answer_rank"][texts])),
        "answer_rank_median_after": float(np.median(ranks[row, texts])),
        "recalled": float(own.columns["clean/recalled"][texts].mean()),
        "recalled_after": float(known[row, texts].mean()),
    }


def relations(own: Ablations) -> list[str]:
    """Relations that were asked, in order."""
    return [r for r in dict.fromkeys(own.text("relation")) if r != OTHER]


def _with_ratios(table: pd.DataFrame, first: str) -> pd.DataFrame:
    keys = ["layer_name", "tap", "selector", "relation", "wording"]
    head = table[table["model"] == first].set_index(keys)
    index = pd.MultiIndex.from_frame(table[keys])
    for name in ("absolute_change", "percentage_change", "delta_nll", "baseline_ppl"):
        there = head[name].reindex(index).to_numpy(dtype=float)
        own = table[name].to_numpy(dtype=float)
        # A ratio to no change is not a number.
        table[f"first_over_this_{name}"] = np.divide(there, own, out=np.full(len(own), np.nan), where=own != 0)
    return table


def regressions(table: pd.DataFrame) -> pd.DataFrame:
    """Fits of effects on baselines over relations, for each model, layer, tap, selector and wording."""
    pairs = (
        ("baseline_ppl", "percentage_change"),
        ("baseline_ppl", "absolute_change"),
        ("baseline_nll", "delta_nll"),
    )
    rows = []
    for names, own in table.groupby(["model", *GROUP, "wording"], sort=False):
        head = dict(zip(["model", *GROUP, "wording"], names, strict=True))
        rows += [{**head, "x": x, "y": y, **effects.regression(own[x], own[y])} for x, y in pairs]
    return pd.DataFrame(rows)


def matrix(all_models: Sequence[Ablations]) -> pd.DataFrame:
    """Every choice of units against every relation's sentences, and against other text."""
    rows = []
    for own in all_models:
        for row, names, _ in own.choices():
            for wording in own.wordings():
                head = {**names, "wording": wording}
                head["erased"] = head.pop("relation")
                for measured in (*relations(own), OTHER):
                    texts = own.where(measured, "passage" if measured == OTHER else wording)
                    part = own.part(row, [], texts)
                    change = own.columns["ablated/answer_logprob"][row, texts]
                    change = change - own.columns["clean/answer_logprob"][texts]
                    answer = float(change.mean()) if measured != OTHER else float("nan")
                    rows.append({
                        "model": own.model, **head, "measured": measured, "before_ppl": float(np.exp(part.baseline)),
                        "after_ppl": float(np.exp(part.perturbed)), "delta_nll": part.delta,
                        "percentage_change": part.percentage, "answer_logprob_change": answer,
                    })  # fmt: skip
    return pd.DataFrame(rows)


def factual(cells: pd.DataFrame) -> pd.DataFrame:
    """The factual-recall table: what each choice does to its own relation, to other relations and to other text.

    Args:
        cells: Table of `matrix`.
    """
    keys = ["model", *GROUP, "erased", "wording"]
    rows = []
    for names, own in cells.groupby(keys, sort=False):
        head = dict(zip(keys, names, strict=True))
        self_, other = own[own["measured"] == head["erased"]].iloc[0], own[own["measured"] == OTHER].iloc[0]
        rest = own[~own["measured"].isin([head["erased"], OTHER])]
        facts = own[own["measured"] != OTHER]
        rows.append({
            **head, "relation_name": RELATIONS.get(head["erased"], head["erased"]),
            "erased_before_ppl": self_["before_ppl"], "erased_after_ppl": self_["after_ppl"],
            "erased_percentage_change": self_["percentage_change"], "erased_delta_nll": self_["delta_nll"],
            "erased_answer_logprob_change": self_["answer_logprob_change"],
            "others_delta_nll_mean": rest["delta_nll"].mean(), "others_delta_nll_max": rest["delta_nll"].max(),
            "others_answer_logprob_change_mean": rest["answer_logprob_change"].mean(),
            "other_text_before_ppl": other["before_ppl"], "other_text_after_ppl": other["after_ppl"],
            "other_text_percentage_change": other["percentage_change"], "other_text_delta_nll": other["delta_nll"],
            "selectivity": effects.selectivity(self_["percentage_change"], other["percentage_change"]),
            "specificity_nll": self_["delta_nll"] - rest["delta_nll"].mean(),
            "specificity_answer": rest["answer_logprob_change"].mean() - self_["answer_logprob_change"],
            "own_rank": 1 + int((facts["answer_logprob_change"] < self_["answer_logprob_change"]).sum()),
            "relations": len(facts),
        })  # fmt: skip
    return pd.DataFrame(rows)


def patterns(table: pd.DataFrame) -> pd.DataFrame:
    """Spread over relations of the sizes of effects, for each model, layer, tap, selector and wording.

    Args:
        table: Table of `factual`.
    """
    keys = ["model", *GROUP, "wording"]
    rows = []
    for names, own in table.groupby(keys, sort=False):
        row: dict[str, Any] = {**dict(zip(keys, names, strict=True)), "relations": len(own)}
        values = {
            "erased_sensitivity": own["erased_percentage_change"].abs(),
            "other_sensitivity": own["other_text_percentage_change"].abs(),
            "selectivity": own["selectivity"],
            "specificity_nll": own["specificity_nll"],
            "specificity_answer": own["specificity_answer"],
        }
        for name, column in values.items():
            row |= {f"{name}_mean": column.mean(), f"{name}_std": column.std(ddof=1), f"{name}_max": column.max()}
            row[f"{name}_min"] = column.min()
        row["own_first_share"] = float((own["own_rank"] == 1).mean())
        rows.append(row)
    return pd.DataFrame(rows)


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """The factual-recall table of all models side by side: their columns have the model's name before a dot.

    Args:
        table: Table of `factual`.
    """
    keys = ["layer_name", "tap", "selector", "erased", "wording"]
    values = ["erased_percentage_change", "erased_delta_nll", "erased_answer_logprob_change", "selectivity"]
    wide = table.pivot_table(index=keys, columns="model", values=values, sort=False)
    wide.columns = pd.Index([f"{model}.{value}" for value, model in wide.columns])
    order = [f"{model}.{value}" for model in dict.fromkeys(table["model"]) for value in values]
    return wide[order].reset_index()


def tracing(tables: Mapping[str, pd.DataFrame], layer_counts: Mapping[str, int]) -> pd.DataFrame:
    """Traces of all models by kind of state, layer and role of the position.

    Args:
        tables: Traces by model.
        layer_counts: Blocks of each model.
    """
    parts = []
    for model, own in tables.items():
        table = own.assign(
            indirect=own["restored_logprob"] - own["corrupted_logprob"],
            total=own["clean_logprob"] - own["corrupted_logprob"],
        )
        # First within each fact, so that a fact with a long subject counts once.
        keys = ["relation", "text", "kind", "layer", "role"]
        by_fact = table.groupby(keys, sort=False)[["indirect", "total"]].mean().reset_index()
        for (kind, layer, role), rows in by_fact.groupby(["kind", "layer", "role"], sort=False):
            count = len(rows)
            parts.append({
                "model": model, "kind": kind, "layer": int(layer), "role": role,
                "relative_depth": (int(layer) + 1) / layer_counts[model], "facts": count,
                "indirect_effect_mean": rows["indirect"].mean(),
                "indirect_effect_sem": rows["indirect"].std(ddof=1) / np.sqrt(count) if count > 1 else np.nan,
                "total_effect_mean": rows["total"].mean(),
                "recovered": rows["indirect"].mean() / rows["total"].mean(),
            })  # fmt: skip
    return pd.DataFrame(parts)
