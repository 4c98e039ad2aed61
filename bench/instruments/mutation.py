"""Changing and restoring weights against the evaluation it serves, and the forwards of a campaign."""

import numpy as np
import torch

from bench import timing
from bench.context import Context
from bench.report import Row, at_most
from tremor.evaluate import nll
from tremor.weights import mutate
from tremor.weights.campaign import Campaign
from tremor.weights.mutate import Edit, edits_at, mutated

ORDER = 82
SCALARS = 10_000
TENSORS = 16  # the best 500 of the embedded models lie in at most so many
TEXTS, TOKENS = 64, 32
CONTROLS = 20


def _texts(vocab: int) -> nll.Texts:
    """Random token ids as texts: what they say does not matter for time."""
    rng = np.random.default_rng(0)
    ids = rng.integers(3, vocab, (TEXTS, TOKENS + 1))
    windows = tuple(nll.Window(i, row[:-1], row[1:]) for i, row in enumerate(ids))
    count = np.full(TEXTS, TOKENS)
    return nll.Texts(tuple(map(str, range(TEXTS))), windows, count, 4 * count, "random")


def _edits(matrices: list[tuple[str, int]], rng: np.random.Generator) -> list[Edit]:
    """`SCALARS` random positions, equally many of each matrix."""
    share = -(-SCALARS // len(matrices))
    picked = [(name, int(i)) for name, size in matrices for i in rng.choice(size, share, replace=False)][:SCALARS]
    return edits_at([name for name, _ in picked], [i for _, i in picked])


def measure(context: Context) -> list[Row]:
    """Apply and restore 10 000 scalars, as a ratio to one evaluation; the naive clone of the model; forwards."""
    loaded, rng = context.loaded, np.random.default_rng(1)
    texts = _texts(loaded.anatomy.vocab)
    engine = Campaign(loaded, texts, batch_size=TEXTS)
    matrices = [(name, p.numel()) for name, p in loaded.model.named_parameters() if p.ndim > 1]
    few, spread = (_edits(matrices[:: max(1, len(matrices) // n)][:n], rng) for n in (TENSORS, len(matrices)))

    def change(edits: list[Edit]) -> None:
        with mutated(loaded, edits, mutate.zero):
            pass

    def clone() -> None:
        kept = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
        with torch.no_grad():
            for name, parameter in loaded.model.named_parameters():
                parameter.copy_(kept[name])

    evaluation = timing.repeated(lambda: nll.evaluate(loaded, texts, batch_size=TEXTS, clean=engine.clean), 5)
    own, all_over = (timing.repeated(lambda e=e: change(e), 20) for e in (few, spread))  # type: ignore[misc]
    whole = timing.repeated(clone, 5)
    forwards: list[int] = []
    handle = loaded.model.register_forward_hook(lambda *_: forwards.append(1))
    try:
        counted = Campaign(loaded, texts, batch_size=TEXTS)
        for draw in range(CONTROLS):
            counted.effect([Edit(matrices[draw % len(matrices)][0], torch.tensor([draw]))], mutate.zero)
    finally:
        handle.remove()
    return [
        at_most(
            f"apply and restore {SCALARS} weights of {len(few)} matrices, % of one evaluation",
            100 * own.best / evaluation.best,
            1,
            note=f"{own.text(1e3, 'ms')} of {evaluation.text(1e3, 'ms')}, {TEXTS} texts of {TOKENS} tokens",
        ),
        Row(f"the same spread over all {len(spread)} matrices, %", f"{100 * all_over.best / evaluation.best:.3g}"),
        Row("the same by a clone of the model, times slower", f"{whole.best / own.best:.3g}×"),
        at_most(
            f"forwards of a campaign of {CONTROLS} mutations beyond one each", len(forwards) - CONTROLS, 2,
            note="one clean baseline, and its repetition as a control",
        ),
    ]  # fmt: skip
