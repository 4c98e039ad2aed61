"""The recorder against the originals' loop, which runs the whole sequence again for every token."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench import timing
from bench.context import Context
from bench.report import Row, at_least, at_most
from tremor.models.loader import LoadedModel
from tremor.record import recording, taps
from tremor.record.decode import Ids, generate
from tremor.record.questions import Question

ORDER = 70
TOKENS = 200
STUDY = 1000  # tokens of an answer in the original study
SAMPLES = 40  # of the lengths on the way there, at which the uncached loop is timed
PROMPT = 6


def _naive(loaded: LoadedModel, ids: Ids) -> list[int]:
    """No cache, all hidden states, logits of all positions: what the originals ran, without their retokenising."""
    sequence = torch.from_numpy(ids)[None].to(loaded.device)
    for _ in range(TOKENS):
        with torch.no_grad():
            output = loaded.model(sequence, use_cache=False, output_hidden_states=True)
        probabilities = torch.softmax(output.logits[0, -1].float(), dim=0)
        chosen = torch.topk(probabilities, 10).indices[:1]
        sequence = torch.cat([sequence, chosen[None]], dim=1)
    return [int(token) for token in sequence[0, len(ids) :]]


def _record(loaded: LoadedModel, ids: Ids, level: taps.Level, path: Path) -> None:
    question = Question(1, "bench", "factual", "")
    plan = recording.TapPlan(taps.choose(loaded, level, ids, "cached"), ["final"], None)
    recording.record(
        loaded,
        [question],
        [ids],
        [plan],
        paths=[path],
        mode="cached",
        tokens=TOKENS,
        rows=1,
        attributes={},
        provenance={},
    )


def _naive_study(loaded: LoadedModel) -> float:
    """Seconds of the uncached loop over `STUDY` tokens, from forwards at some of its lengths."""
    seconds = 0.0
    for length in np.linspace(PROMPT, PROMPT + STUDY - 1, SAMPLES).astype(int):
        ids = torch.arange(length, device=loaded.device)[None] % loaded.anatomy.vocab

        def forward(ids: torch.Tensor = ids) -> None:
            with torch.no_grad():
                loaded.model(ids, use_cache=False, output_hidden_states=True)

        seconds += timing.once(forward) * STUDY / SAMPLES
    return seconds


def measure(context: Context) -> list[Row]:
    """Seconds for a text: the originals' loop, cached decoding alone, and recordings of five stages and of all."""
    loaded = context.loaded
    ids = (7 * np.arange(PROMPT, dtype=np.int64) + 3) % loaded.anatomy.vocab
    chosen: list[int] = []
    naive = timing.once(lambda: chosen.extend(_naive(loaded, ids)))

    def plain() -> list[int]:
        return [int(step.chosen[0]) for step in generate(loaded, [ids], mode="cached", tokens=TOKENS)]

    if len(plain()) != TOKENS:
        raise RuntimeError("the text ended early, so its time says nothing; start from other tokens")
    decoding = timing.repeated(plain, 3, warm=0).best
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "q01.h5"
        stages = timing.repeated(lambda: _record(loaded, ids, "stages", path), 3).best
        everything = timing.repeated(lambda: _record(loaded, ids, "all", path), 3).best
        size = path.stat().st_size
    # Rotary positions have no table: this random model goes on as long as one likes.
    endless = replace(loaded, anatomy=replace(loaded.anatomy, context=None))
    long = timing.once(lambda: list(generate(endless, [ids], mode="cached", tokens=STUDY)))
    ratio = _naive_study(loaded) / long
    note = f"{naive:.3g} s without a cache, {stages:.3g} s recorded"
    return [
        at_least(f"recording of {TOKENS} tokens, times faster than without a cache", naive / stages, 10, note=note),
        Row(f"decoding of {STUDY} tokens, times faster than without a cache", f"{ratio:.3g}"),
        at_most(
            "recording every stage, times the seconds of decoding alone",
            everything / decoding,
            2,
            note=f"{everything:.3g} s against {decoding:.3g} s, {size / 2**20:.3g} MiB",
        ),
    ]
