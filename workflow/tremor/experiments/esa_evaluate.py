"""esa/evaluate: likelihood, calibration and generations of a model as it is."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.errors import ConfigError
from tremor.evaluate import generation, harness, nll, predictions
from tremor.evaluate import texts as evaluation_texts
from tremor.evaluate.effects import Resampler
from tremor.evaluate.predictions import Predictions
from tremor.experiments.session import Session
from tremor.models.corpus import Passage
from tremor.models.loader import LoadedModel
from tremor.progress import track
from tremor.statistics.calibration import calibration
from tremor.store.documents import write_json
from tremor.store.tables import write_csv

ALL = "all"
TASKS = ("task", "metric", "filter", "value", "stderr", "documents")


def measure(
    session: Session,
    *,
    settings: Mapping[str, Any],
    files: Sequence[Path],
    texts: Path,
    domains: Path,
    bins: Path,
    tasks: Path,
    generations: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Read the evaluation text, and let the model write.

    Args:
        session: The model on its platform.
        settings: Config block `esa.evaluate`.
        files: The user's text file, if there is one; else the held-out text.
        texts: CSV to write: one row for each text.
        domains: CSV to write: one row for each domain, and one for all.
        bins: CSV to write: reliability diagram, of all predictions.
        tasks: CSV to write: results of task files; empty without any.
        generations: JSON to write: what the model writes after each prompt.
        statistics: JSON to write.
        provenance: Config, code and input digests.
    """
    loaded: LoadedModel = session.loaded
    passages = gather(settings, files)
    read = nll.tokenise(
        loaded, [p.text for p in passages], window=settings["window"], overlap=_overlap(loaded, settings)
    )
    started = time.perf_counter()
    found = predictions.predict(loaded, read, batch_size=settings["batch_size"])
    seconds = time.perf_counter() - started
    origin = session.provenance(**provenance, seeds={"evaluate": settings["seed"]})
    names = np.array([p.domain for p in passages])
    rows = [_domain(ALL, found, np.ones(len(read), dtype=bool), settings)]
    rows += [_domain(name, found, names == name, settings) for name in dict.fromkeys(names.tolist())]
    write_csv(texts, _texts(passages, found), provenance=origin)
    write_csv(domains, pd.DataFrame(rows), provenance=origin)
    write_csv(bins, _bins(found, settings), provenance=origin)
    results = harness.run(loaded, [Path(p) for p in settings["tasks"]], limit=settings["task_limit"]) if settings[
        "tasks"
    ] else []  # fmt: skip
    write_csv(tasks, _tasks(results), provenance=origin)
    started = time.perf_counter()
    written = _generations(loaded, settings)
    spent = time.perf_counter() - started
    write_json(generations, {"generations": written}, provenance=origin)
    document = {
        **{name: value for name, value in rows[0].items() if name != "domain"},
        "domains": len(rows) - 1,
        "windows": len(read.windows),
        "window": settings["window"] or loaded.anatomy.context or 1024,
        "overlap": _overlap(loaded, settings),
        "seconds": seconds,
        "tokens_per_second": float(read.tokens.sum() / seconds),
        "generated_tokens": sum(row["tokens"] for row in written),
        "generated_tokens_per_second": sum(row["tokens"] for row in written) / spent,
        "repeated_4grams": _mean([row["repeated_4grams"] for row in written]),
        "ended": _mean([row["stopped"] == "eos" for row in written]),
        "tasks": len(settings["tasks"]),
        "texts_digest": read.digest,
        "dtype": str(loaded.dtype).removeprefix("torch."),
    }
    write_json(statistics, document, provenance=origin)


def gather(settings: Mapping[str, Any], files: Sequence[Path]) -> tuple[Passage, ...]:
    """The texts to read, with their domains.

    Args:
        settings: `file`, `unit` and `texts` of the config block `esa.evaluate`.
        files: The user's file first, where `file` is set.

    Raises:
        ConfigError: The file has no text, or there are fewer passages than asked for.
    """
    if settings["file"] is None:
        found = evaluation_texts.passages("heldout", settings["texts"])
    else:
        found = evaluation_texts.balanced(_paragraphs(Path(files[0])), settings["texts"])
    if settings["unit"] == "passage":
        return found
    domains = dict.fromkeys(p.domain for p in found)
    return tuple(Passage(name, "\n".join(p.text for p in found if p.domain == name)) for name in domains)


def _paragraphs(path: Path) -> list[Passage]:
    try:
        parts = [part.strip() for part in path.read_text(encoding="utf-8").replace("\r\n", "\n").split("\n\n")]
    except UnicodeDecodeError as error:
        raise ConfigError(f"esa.evaluate.file: {path} is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    found = [Passage(path.stem, part) for part in parts if part]
    if not found:
        raise ConfigError(f"esa.evaluate.file: {path} has no text; write some, or set it to null")
    return found


def _overlap(loaded: LoadedModel, settings: Mapping[str, Any]) -> int:
    """The configured overlap, at most half a window, so that every window scores something new."""
    width = settings["window"] or loaded.anatomy.context or 1024
    return int(min(settings["overlap"], max(1, width // 2)))


def _domain(name: str, found: Predictions, chosen: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of the chosen texts; those that need finite losses are missing where a text has none."""
    own = found.evaluation
    mine = chosen[found.text]
    tokens, size = int(own.tokens[chosen].sum()), int(own.bytes[chosen].sum())
    row: dict[str, Any] = {"domain": name, "texts": int(chosen.sum()), "tokens": tokens, "bytes": size}
    bad = [state for state, here in zip(own.status, chosen, strict=True) if here and state != "ok"]
    row["status"] = "nan_logits" if "nan_logits" in bad else bad[0] if bad else "ok"
    numbers = ("nll", "nll_low", "nll_high", "perplexity", "bits_per_byte", "accuracy", "confidence", "ece", "mce",
               "brier", "entropy")  # fmt: skip
    if bad:
        return row | dict.fromkeys(numbers, float("nan"))
    sums = own.nll_sum[chosen]
    mean = float(sums.sum() / tokens)
    low, high = float("nan"), float("nan")
    if chosen.sum() > 1:
        interval = Resampler(own.tokens[chosen], seed=settings["seed"]).interval(sums / own.tokens[chosen])
        low, high = interval.low, interval.high
    measured = calibration(
        found.confidence[mine], found.correct[mine], bins=settings["bins"], binning=settings["binning"]
    )
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(mean))
    values = (mean, low, high, perplexity, float(sums.sum() / np.log(2) / size), measured.accuracy,
              measured.confidence, measured.ece, measured.mce, float(found.brier[mine].mean()),
              float(found.entropy[mine].mean()))  # fmt: skip
    return row | dict(zip(numbers, values, strict=True))


def _texts(passages: Sequence[Passage], found: Predictions) -> pd.DataFrame:
    own = found.evaluation
    hits = np.bincount(found.text, weights=found.correct, minlength=len(passages))
    return pd.DataFrame(
        {
            "text": np.arange(len(passages)),
            "domain": [p.domain for p in passages],
            "tokens": own.tokens.astype(np.int64),
            "bytes": own.bytes.astype(np.int64),
            "status": list(own.status),
            "nll": own.nll_sum / own.tokens,
            "accuracy": hits / own.tokens,
            "beginning": [" ".join(p.text.split())[:60] for p in passages],
        }
    )


def _bins(found: Predictions, settings: Mapping[str, Any]) -> pd.DataFrame:
    if np.isnan(found.confidence).any():
        return pd.DataFrame({n: np.zeros(0) for n in ("low", "high", "count", "confidence", "accuracy")})
    return calibration(found.confidence, found.correct, bins=settings["bins"], binning=settings["binning"]).bins


def _tasks(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=list(TASKS))
    return frame.astype({"value": "float64", "stderr": "float64", "documents": "int64"})


def _generations(loaded: LoadedModel, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Greedy first, then the samples, of every prompt."""
    rows = []
    for number, prompt in enumerate(track(settings["prompts"], "prompts")):
        for sample in range(settings["samples"] + 1):
            drawn = {} if sample == 0 else {"temperature": settings["temperature"], "top_p": settings["top_p"]}
            # One stream of uniform numbers for each prompt and sample, whatever the others are.
            seed = int(np.random.SeedSequence([settings["seed"], number, sample]).generate_state(1)[0])
            made = generation.generate(loaded, prompt, tokens=settings["tokens"], seed=seed, **drawn)
            rows.append(
                {
                    "prompt": prompt, "sample": sample, "kind": "sampled" if drawn else "greedy",
                    "seed": seed if drawn else None, "text": made.text, "ids": list(made.ids),
                    "tokens": len(made.ids), "stopped": made.stopped, "repeated_4grams": repeated(made.ids, 4),
                }
            )  # fmt: skip
    return rows


def repeated(ids: Sequence[int], size: int) -> float | None:
    """Share of runs of `size` tokens that occurred before; None for a text without a run."""
    runs = [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else None


def _mean(values: Sequence[float | bool | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None
