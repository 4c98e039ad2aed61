"""Scoring a document in teacher-forced windows against one forward a word, as the original did."""

import runpy
import tempfile
from pathlib import Path

import numpy as np
import torch

from bench import ROOT, timing
from bench.context import Context
from bench.report import Row, at_least
from tremor.documents import scoring
from tremor.documents.text import read_pdf
from tremor.documents.windows import Window, batches, plan

ORDER = 90
WORDS = 5000
TOKENS = 6500  # 1.3 a word
WINDOW, STRIDE, BATCH = 256, 128, 8
SAMPLED = 20  # words of the naive way that are run; the rest is extrapolated
FEW = 5  # of them where each takes seconds
MEMORY = 2.0**28


def _pdf_seconds() -> float:
    """Reading the text of a PDF of so many words."""
    make = runpy.run_path(str(ROOT / "resources/pdf/make_sample.py"))["pdf_bytes"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.pdf"
        path.write_bytes(make([" ".join(f"word{number}" for number in range(WORDS))]))
        return timing.once(lambda: read_pdf(path))


def _forward(context: Context, ids: torch.Tensor) -> None:
    with torch.no_grad():
        context.loaded.model(input_ids=ids[None], use_cache=False).logits[0, -1].double().softmax(0).topk(2)


def _a_word(context: Context, ids: torch.Tensor, lengths: np.ndarray, runs: int) -> float:
    """Mean seconds of a forward on contexts of some lengths, each the best of some runs."""
    seconds = []
    for length in lengths:
        part = ids[: int(length)]
        seconds.append(timing.repeated(lambda part=part: _forward(context, part), runs, warm=runs - 1).best)  # type: ignore[misc]
    return float(np.mean(seconds))


def measure(context: Context) -> list[Row]:
    """Seconds for a document of 5 000 words, and how many times faster than a forward for each word."""
    ids = (7 * np.arange(TOKENS, dtype=np.int64) + 3) % context.loaded.anatomy.vocab
    windows: list[Window] = plan(TOKENS, window=WINDOW, stride=STRIDE, bos=False)

    def ours() -> None:
        list(scoring.score(context.loaded, ids, batches(windows, BATCH), bos=None, max_memory=MEMORY))

    times = timing.repeated(ours, 1 if context.large else 3)
    pdf = _pdf_seconds()
    on_device = torch.from_numpy(ids).to(context.device)
    contexts = np.linspace(WINDOW - STRIDE, WINDOW - 1, SAMPLED)
    same = WORDS * _a_word(context, on_device, contexts, 2)
    growing = WORDS * _a_word(context, on_device, np.linspace(1, TOKENS - 1, FEW), 1)
    return [
        Row(f"text of a PDF of {WORDS} words", f"{pdf:.3g} s"),
        Row(f"{TOKENS} tokens scored in windows of {WINDOW}", times.text()),
        at_least(
            "a document in windows, times faster than a forward a word on the same contexts",
            (same + pdf) / (times.best + pdf),
            50,
            unit="×",
            note=f"{same:.3g} s, extrapolated from {SAMPLED} words",
        ),
        Row(
            "the same against a forward a word on all words before it",
            f"{(growing + pdf) / (times.best + pdf):.3g}× ({growing:.3g} s, extrapolated from {FEW} words)",
        ),
    ]
