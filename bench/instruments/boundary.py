"""The exact boundary search against the originals' plain one."""

import numpy as np

from bench import llama, timing
from bench.context import Context
from bench.naive import PlainSearch
from bench.report import Row, at_least
from tremor.probe.boundary import find_boundaries
from tremor.probe.response import Response

ORDER = 20
RAYS, S_MAX = 1000, 1e-6


def measure(context: Context) -> list[Row]:
    """1000 rays of a plane, all at once, against a few rays one by one; building the response counts."""
    base = llama.point(context.loaded, 6)
    directions = llama.plane(len(base.x), RAYS)
    response = Response(context.loaded, base, mode="batched")
    found = find_boundaries(response, directions, s_max=S_MAX, arithmetic="float64")
    times = timing.repeated(
        lambda: find_boundaries(response, directions, s_max=S_MAX, arithmetic="float64"),
        1 if context.large else 5,
        warm=0,
    )
    search = PlainSearch(context.loaded, base)
    sample = np.linspace(0, RAYS, 4, endpoint=False).astype(int)
    plain = timing.Times(
        tuple(timing.once(lambda r=ray: search.boundary(directions[r], S_MAX)) for ray in sample)  # type: ignore[misc]
    )
    forwards = search.forwards / len(sample)
    return [
        Row(
            f"exact boundary search, {RAYS} rays",
            f"{times.text()}; {found.evaluations.mean():.1f} distinct inputs a ray, "
            f"{found.model_rows / RAYS:.1f} rows run, {int(found.certified.sum())} certified",
        ),
        Row("plain bisection and ulp walk, a ray", f"{plain.text()}; {forwards:.0f} forwards"),
        at_least("exact search, times faster a ray", plain.best / (times.best / RAYS), 100, unit="×"),
    ]
