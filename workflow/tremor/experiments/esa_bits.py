"""esa/bit-level: single flipped bits in every component, attacks by bit flips, lower precision, bits of the weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tremor.evaluate import nll
from tremor.evaluate.effects import Resampler
from tremor.experiments import esa_bit_attack, esa_shared
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.progress import track
from tremor.store.documents import write_json
from tremor.store.tables import write_csv
from tremor.weights import bits, components, quantise
from tremor.weights.campaign import Campaign
from tremor.weights.mutate import Edit, Operation, set_to
from tremor.weights.select import Selection, edits_of, select

CLASSES = ("silent", "changed", "nan", "inf")
INTEGERS = ("weights", "cases", "bit", "block", "flat_index", "answers", "draw", "flips", *CLASSES)
TEXTS = (
    "study", "format", "component", "setting", "field", "tensor", "outcome", "value", "status", "rule", "role",
)  # fmt: skip


def measure(
    session: Session,
    *,
    texts: Mapping[str, Any],
    settings: Mapping[str, Any],
    faults: Path,
    positions: Path,
    attack: Path,
    precision: Path,
    ones: Path,
    exponents: Path,
    effects: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Flip, attack, round and count.

    Args:
        session: The model on its platform.
        texts: Config block `esa.texts`; its batch size is used.
        settings: Config block `esa.bit_level`.
        faults: CSV to write: a row for each flipped bit.
        positions: CSV to write: a row for each format, component and bit position.
        attack: CSV to write: a row for each attack and number of flips.
        precision: CSV to write: a row for each precision.
        ones: CSV to write: share of ones by component and bit position.
        exponents: CSV to write: weights by component and exponent.
        effects: CSV to write: the rows of the summary.
        statistics: JSON to write.
        provenance: Config, code and input digests.
    """
    loaded: LoadedModel = session.loaded
    selection = select(loaded.anatomy, layers=settings["layers"], components=settings["components"])
    held = nll.tokenise(loaded, esa_shared.passages("heldout", settings["texts"]))
    campaign = Campaign(loaded, held, batch_size=texts["batch_size"])
    swept = sweep(campaign, selection, settings)
    cells = _cells(swept, ["format", "component", "bit", "field"])
    rounded = _precision(campaign, selection, settings)
    attacked = esa_bit_attack.run(loaded, held, selection, settings, batch_size=texts["batch_size"])
    shares, histogram = _statistics(loaded, selection)
    dtype = str(loaded.dtype).removeprefix("torch.")
    summary = pd.DataFrame(
        [
            *_flip_rows(swept),
            *({"study": "precision", "component": "all", **row} for row in rounded),
            *esa_bit_attack.summarise(attacked, dtype),
        ]
    )
    summary["nll_clean"] = campaign.clean.evaluation.nll
    summary["dtype"] = dtype
    origin = session.provenance(**provenance, seeds={"bit_level": settings["seed"]})
    tables = (
        (faults, swept), (positions, cells), (precision, pd.DataFrame(rounded)), (attack, attacked),
        (ones, shares), (exponents, histogram), (effects, summary),
    )  # fmt: skip
    for path, table in tables:
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        write_csv(path, esa_shared.table(rows, integers=INTEGERS, texts=TEXTS), provenance=origin)
    document = {
        "nll_clean": campaign.clean.evaluation.nll,
        "tokens": int(held.tokens.sum()),
        "population": selection.count,
        "tensors": list(selection.tensors),
        "texts": held.digest,
    }
    write_json(statistics, document, provenance=origin)


def sweep(campaign: Campaign, selection: Selection, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Flip every bit of a few weights of every component, one at a time.

    In a format that is not the model's own, the weight alone is stored in it: rounded, flipped, and read back into the
    model's type.

    Returns:
        A row for each fault: where, which bit, value before and after, and what became of the predictions.
    """
    anatomy = campaign.loaded.anatomy
    rows = []
    for number, (component, entries) in enumerate(track(components.by_component(selection).items(), "components")):
        rng = np.random.default_rng([settings["seed"], number])
        for name, flat in components.draw(entries, settings["weights"], rng):
            weight = anatomy.parameter(name).detach().reshape(-1)[flat : flat + 1]
            place = {"component": component, "tensor": name, "flat_index": flat, "block": entries[name].layout.block}
            for form in settings["formats"]:
                stored = weight.to(getattr(torch, form))
                for bit in range(bits.format_for(stored.dtype).width):
                    after = bits.flipped(stored, bit)
                    head = {"format": form, **place, "bit": bit, "field": bits.field_of(stored.dtype, bit)}
                    rows.append({**head, **_fault(campaign, name, flat, stored, after)})
    return pd.DataFrame(rows)


def _fault(campaign: Campaign, name: str, flat: int, stored: torch.Tensor, after: torch.Tensor) -> dict[str, Any]:
    edit = Edit(name, torch.tensor([flat]))
    # A flip below the precision of the model's own type may leave the weight as it was; that is an outcome too.
    effect = campaign.effect([edit], set_to(after.to(campaign.loaded.dtype)), allow_unchanged=True)
    value = next(kind for kind, count in bits.outcomes(stored, after).items() if count)
    return {"old": float(stored), "new": float(after), "value": value, **outcome(effect.evaluation)}


def outcome(found: nll.Evaluation) -> dict[str, Any]:
    """What became of the predictions: one of `CLASSES`, and numbers where there are any, never capped."""
    assert found.changed is not None
    kind = {"nan_logits": "nan", "inf_loss": "inf"}.get(
        found.overall, "changed" if int(found.changed.sum()) else "silent"
    )
    delta, kl, turned = found.corpus_delta_nll, found.corpus_kl, found.flip_rate
    return {
        "outcome": kind,
        "delta_nll": None if np.isnan(delta) else delta,
        "kl": None if np.isnan(kl) else kl,
        "flip_rate": None if np.isnan(turned) else turned,
    }


def _cells(swept: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Faults counted by class, with the median and the largest effect of those that have a number."""
    rows = []
    for names, group in swept.groupby(list(keys), sort=False):
        delta = group["delta_nll"].to_numpy(dtype=np.float64)
        known = delta[~np.isnan(delta)]
        counts = {kind: int((group["outcome"] == kind).sum()) for kind in CLASSES}
        rows.append(
            {
                **dict(zip(keys, names, strict=True)),
                "cases": len(group),
                **counts,
                "answers": int((group["flip_rate"].astype("float64") > 0).sum()),
                "delta_nll": float(np.median(known)) if len(known) else None,
                "delta_nll_max": float(known.max()) if len(known) else None,
                "kl": group["kl"].astype("float64").median(),
                "kl_max": group["kl"].astype("float64").max(),
                "flip_rate": group["flip_rate"].astype("float64").mean(),
            }
        )
    return pd.DataFrame(rows)


def _flip_rows(swept: pd.DataFrame) -> list[dict[str, Any]]:
    table = _cells(swept, ["format", "component", "field"]).rename(columns={"field": "setting"})
    return [{"study": "flip", "weights": 1, **row} for row in table.to_dict("records")]


def _precision(campaign: Campaign, selection: Selection, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All selected weights rounded, truly, to fewer mantissa bits and to integer and NF4 grids."""
    dtype = campaign.loaded.dtype
    own = len(bits.positions(dtype, "mantissa"))
    plan: list[tuple[str, int | None, Operation]] = [
        (f"mantissa_{kept}", kept, quantise.to_mantissa(kept)) for kept in settings["mantissa"] if kept <= own
    ]
    grids: dict[str, Operation] = {
        "int8": quantise.integer(8),
        "int4": quantise.integer(4, granularity="group", group=settings["group"]),
        "nf4": quantise.nf4(group=settings["group"]),
    }
    plan += [(name, None, grids[name]) for name in settings["grids"]]
    resampler = Resampler(campaign.texts.tokens)
    rows = []
    for name, kept, operation in track(plan, "formats"):
        effect = campaign.effect(edits_of(selection), operation, allow_unchanged=True)
        found = outcome(effect.evaluation)
        per_text = effect.evaluation.delta_nll
        finite = per_text is not None and bool(np.isfinite(per_text).all())
        interval = resampler.interval(per_text) if finite and per_text is not None else None
        rows.append(
            {
                "setting": name,
                "format": str(dtype).removeprefix("torch."),
                "bit": kept,
                "weights": effect.changed,
                "cases": 1,
                **{kind: int(found["outcome"] == kind) for kind in CLASSES},
                "answers": int((found["flip_rate"] or 0) > 0),
                **{name: found[name] for name in ("delta_nll", "kl", "flip_rate")},
                "delta_nll_max": found["delta_nll"],
                "delta_nll_low": None if interval is None else interval.low,
                "delta_nll_high": None if interval is None else interval.high,
            }
        )
    return rows


def _statistics(loaded: LoadedModel, selection: Selection) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Share of ones at each bit position, and how often each exponent occurs, by component."""
    shares, histogram = [], []
    for component, entries in components.by_component(selection).items():
        ones = np.zeros(bits.format_for(loaded.dtype).width)
        counts, total = np.zeros(0, dtype=np.int64), 0
        for name, entry in entries.items():
            mine = components.values(loaded.anatomy.parameter(name), entry)
            ones += bits.ones(mine) * mine.numel()
            exponent, found = bits.exponents(mine)
            counts = found if not len(counts) else counts + found
            total += mine.numel()
        for bit, count in enumerate(ones):
            head = {"component": component, "bit": bit, "field": bits.field_of(loaded.dtype, bit)}
            shares.append({**head, "ones": count / total, "weights": total})
        present = np.flatnonzero(counts)
        for place in present:
            histogram.append(
                {
                    "component": component,
                    "exponent": int(exponent[place]),
                    "zero_code": int(exponent[0]),
                    "weights": int(counts[place]),
                }
            )
    return pd.DataFrame(shares), pd.DataFrame(histogram)
