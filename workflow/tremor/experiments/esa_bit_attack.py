"""Attacks by bit flips on a model, beside random flips, measured on texts that the attack does not see."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from tremor.evaluate import nll
from tremor.experiments import esa_shared
from tremor.models.loader import LoadedModel
from tremor.progress import track
from tremor.weights import bits, bitsearch
from tremor.weights.bitsearch import Flip, Memory
from tremor.weights.scores.base import differentiable, encode, mean_nll
from tremor.weights.select import Selection


def run(
    loaded: LoadedModel, held: nll.Texts, selection: Selection, settings: Mapping[str, Any], *, batch_size: int
) -> pd.DataFrame:
    """Attack under every rule.

    Args:
        loaded: The model.
        held: Held-out texts, on which effects are measured.
        selection: The weights that may be flipped.
        settings: Config block `esa.bit_level`.
        batch_size: Texts in one forward pass.

    Returns:
        A row for each rule, role (search, random, same_bits), draw and number of flips, from 0 up: the last flip, the
        attacked NLL, and the effect on the held-out texts against the same model without flips.
    """
    passages = esa_shared.passages("calibration", settings["attack_texts"])
    rows: list[dict[str, Any]] = []
    for number, rule in enumerate(settings["attacks"]):
        with bitsearch.memory_of(loaded, selection, rule) as memory:
            target = _Target(loaded, passages, held, selection, batch_size)
            found = list(_search(target, memory, selection, settings, rule))
            rows += found
        flips = [row["flip"] for row in found[1:]]
        for role in ("random", "same_bits"):
            for draw in track(settings["draws"], "random attacks"):
                rng = np.random.default_rng([settings["seed"], number, role == "same_bits", draw])
                # A memory of its own: the search has changed the codes of the other one.
                with bitsearch.memory_of(loaded, selection, rule) as memory:
                    like = flips if role == "same_bits" else None
                    chosen = bitsearch.random_flips(selection, memory, len(flips), rng, like=like) if flips else []
                    rows += _made(target, chosen, {"rule": rule, "role": role, "draw": draw})
    table = pd.DataFrame([{**row, **_described(row["flip"], loaded, selection, row["rule"])} for row in rows])
    return table.drop(columns="flip")


class _Target:
    """The attacked loss with its gradient, and the effect on other texts."""

    def __init__(
        self,
        loaded: LoadedModel,
        passages: Sequence[str],
        held: nll.Texts,
        selection: Selection,
        batch_size: int,
    ) -> None:
        self.loaded, self.held, self.selection, self.batch_size = loaded, held, selection, batch_size
        self.texts = nll.tokenise(loaded, passages)
        self.sequences = encode(loaded, passages)
        self.clean = nll.baseline(loaded, held, batch_size=batch_size)

    def loss(self) -> float:
        """NLL of the attacked texts, nats per token."""
        return nll.evaluate(self.loaded, self.texts, batch_size=self.batch_size).nll

    def gradients(self) -> dict[str, Tensor]:
        """Gradients of the attacked texts' NLL by tensor, at least float32."""
        tokens = [len(ids) - 1 for ids in self.sequences]
        with differentiable(self.selection) as chosen:
            for ids, count in zip(self.sequences, tokens, strict=True):
                (mean_nll(self.loaded, ids) * (count / sum(tokens))).backward()
            found = {}
            for name, parameter in chosen:
                assert parameter.grad is not None
                found[name] = parameter.grad.float()
                parameter.grad = None
        return found

    def effect(self) -> dict[str, Any]:
        """The held-out texts beside the model without flips."""
        found = nll.evaluate(self.loaded, self.held, batch_size=self.batch_size, clean=self.clean)
        values = {"nll": found.nll, "delta_nll": found.corpus_delta_nll, "kl": found.corpus_kl}
        values["flip_rate"] = found.flip_rate
        return {"status": found.overall, **{name: None if np.isnan(v) else v for name, v in values.items()}}


def _search(
    target: _Target, memory: Memory, selection: Selection, settings: Mapping[str, Any], rule: str
) -> Iterator[dict[str, Any]]:
    head = {"rule": rule, "role": "search", "draw": None}
    yield {**head, "flips": 0, "flip": None, "attacked_nll": target.loss(), **target.effect()}
    flips = bitsearch.search(
        target.loaded,
        selection,
        memory,
        gradients=target.gradients,
        loss=target.loss,
        flips=settings["max_flips"],
        pool=settings["pool"],
        count=settings["candidates"],
        collapse=float(np.log(target.loaded.anatomy.vocab)),  # no better than guessing
    )
    for number, (flip, loss) in enumerate(flips, start=1):
        attacked = None if np.isnan(loss) else loss
        yield {**head, "flips": number, "flip": flip, "attacked_nll": attacked, **target.effect()}


def _made(target: _Target, chosen: Sequence[Flip], head: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        for number, flip in enumerate(chosen, start=1):
            stack.enter_context(bitsearch.flipped(target.loaded, flip))
            yield {**head, "flips": number, "flip": flip, "attacked_nll": None, **target.effect()}


def _described(flip: Flip | None, loaded: LoadedModel, selection: Selection, rule: str) -> dict[str, Any]:
    names = ("tensor", "flat_index", "block", "component", "bit", "field", "old", "new", "estimate")
    if flip is None:
        return dict.fromkeys(names)
    part = selection.locate(flip.tensor, np.array([flip.flat_index], dtype=np.int64))[0]
    if rule == "int8":
        field = "sign" if flip.bit == bitsearch.CODE_BITS - 1 else "magnitude"
    else:
        field = bits.field_of(loaded.dtype, flip.bit)
    estimate = None if np.isnan(flip.estimate) else flip.estimate
    values = (flip.tensor, flip.flat_index, part.block, part.component, flip.bit, field, flip.old, flip.new, estimate)
    return dict(zip(names, values, strict=True))


def summarise(attacked: pd.DataFrame, dtype: str) -> list[dict[str, Any]]:
    """The last state of every attack: a row for each rule and role, with all draws of a role in one."""
    rows = []
    for (rule, role), group in attacked.groupby(["rule", "role"], sort=False):
        last = group[group["flips"] == group["flips"].max()]
        if int(last["flips"].iloc[0]) == 0:
            continue
        delta = last["delta_nll"].to_numpy(dtype=np.float64)
        known = delta[~np.isnan(delta)]
        status = last["status"]
        turned = last["flip_rate"].astype("float64")
        rows.append(
            {
                "study": "attack",
                "format": "int8" if rule == "int8" else dtype,
                "component": "all",
                "setting": f"{rule}: {role}",
                "weights": int(last["flips"].iloc[0]),
                "cases": len(last),
                "silent": int(((status == "ok") & (last["kl"].astype("float64") == 0)).sum()),
                "changed": int(((status == "ok") & (last["kl"].astype("float64") != 0)).sum()),
                "nan": int((status == "nan_logits").sum()),
                "inf": int((status == "inf_loss").sum()),
                "answers": int((turned > 0).sum()),
                "delta_nll": float(np.median(known)) if len(known) else None,
                "delta_nll_max": float(known.max()) if len(known) else None,
                "kl": last["kl"].astype("float64").median(),
                "flip_rate": turned.mean(),
            }
        )
    return rows
