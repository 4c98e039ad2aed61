"""Neurons: one clean pass for all selectors, and ablation of batches of sentences, each against the plain way."""

import random

from bench import timing
from bench.context import Context
from bench.report import Row, at_least
from tremor.evaluate import facts
from tremor.evaluate.relations import Sentence
from tremor.neurons import select, sites
from tremor.weights.activations import ablation

ORDER = 60
SENTENCES, LENGTH, SELECTORS = 96, 12, ("variance", "gradient")


def measure(context: Context) -> list[Row]:
    """Seconds of the shared pass against a pass for each choice; of an ablation against one sentence at a time."""
    loaded = context.loaded
    draw = random.Random(0)
    ids = tuple(tuple(draw.randrange(3, loaded.anatomy.vocab) for _ in range(LENGTH + i % 3)) for i in range(SENTENCES))
    rows = tuple(Sentence("R", "train", str(i), (0, 1), (1, 2)) for i in range(SENTENCES))
    answers = tuple((len(row) - 2, len(row) - 1) for row in ids)
    subjects = tuple((1, 3) for _ in ids)
    batched, single = (facts.pack(rows, ids, answers, subjects, loaded.device, budget) for budget in (512, 1))
    places = [sites.site(loaded, "output", layer) for layer in range(min(3, loaded.anatomy.n_layers))]

    def together() -> None:
        chosen = select.Selection(loaded, batched, places, SELECTORS)
        for place in places:
            for name in SELECTORS:
                chosen.scores(name, place, "R")

    def apart() -> None:
        for place in places:
            for name in SELECTORS:
                select.Selection(loaded, batched, [place], [name]).scores(name, place, "R")

    last = sites.site(loaded, "output", loaded.anatomy.n_layers - 2)
    change = {last.tap: ablation(last.tap, [1, 2, 3])}
    kept = facts.keep(loaded, batched, last.start)
    shared, each = timing.repeated(together, 3), timing.repeated(apart, 3)
    quick = timing.repeated(lambda: facts.evaluate(loaded, batched, changes=change, kept=kept), 5)
    plain = timing.repeated(lambda: facts.evaluate(loaded, single, changes=change), 1 if context.large else 2)
    return [
        at_least(
            f"one clean pass for {len(places) * len(SELECTORS)} choices, times faster", each.best / shared.best, 2.0,
            note=shared.text(1e3, "ms"),
        ),
        at_least(
            f"ablation of {SENTENCES} sentences, times faster than one by one", plain.best / quick.best, 2.0,
            note=quick.text(1e3, "ms"),
        ),
    ]  # fmt: skip
