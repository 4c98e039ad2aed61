"""Results written by hand for the page of results: two models and one with an evil name, small enough to read."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.figures import save, style
from tremor.report import files
from tremor.report.build import Sources
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.provenance import collect
from tremor.store.tables import write_csv, write_parquet

EVIL = "<img src=x onerror=window.hacked=1>"  # a folder's name may hold this, though no alias of a config can
EVIL_TEXT = "</script><script>window.hacked=1</script><b>bold</b> & 'quoted' \"text\""
MODELS = ("alpha", "beta")
RAYS = 90
CELLS = (9, 7)  # along e1 and e2: not square, so that a transposed map is seen
ROWS = 40  # of the long table
SCORES = [0.99996, 1 / 3, np.nan, np.inf, -np.inf, -0.25, 1.5e-7, 12345.67891]


def origin(*, model: str = "", prompt: str = "") -> dict[str, Any]:
    """Provenance as a job's, volatile part included."""
    config = {"settings": {"angles": RAYS}, "prompt": {"text": EVIL_TEXT if prompt == "evil" else "The capital is"}}
    return collect(
        config={**config, "wildcards": {"model": model, "prompt": prompt}},
        code="0123abc",
        inputs={},
        seeds={"draw": 7},
        platform={"applied": {"device": "cpu", "dtype": "float32"}} if model else {},
        model={"alias": model, "weights_digest": "5eed" * 8} if model else {},
    )


def rays(seed: int) -> dict[str, Any]:
    """Datasets of ``boundary.h5``, as far as the page reads them."""
    generator = np.random.default_rng(seed)
    max_s = (1e-9 * 10 ** generator.uniform(-1, 1, RAYS)).astype(np.float32)
    return {
        "theta": np.linspace(0, 2 * np.pi, RAYS, endpoint=False),
        "max_s": max_s,
        "first_breakpoint": (max_s / 2).astype(np.float32),
        "evaluations": generator.integers(3, 40, RAYS),
        "censored": np.arange(RAYS) == 5,
        "certified": np.arange(RAYS) != 9,
    }


def planes(cells: tuple[int, int] = CELLS) -> dict[str, Any]:
    """Datasets of ``planes.h5``: two planes at one radius, every cell with a gap of its own."""
    first, second = cells
    gap = np.arange(2 * first * second, dtype=np.float64).reshape(2, 1, first, second)
    gap = (gap - first * second) * 1.1e-7
    axes = [np.broadcast_to(np.linspace(-1e-6, 1e-6, count), (2, 1, count)).copy() for count in cells]
    token = np.where(gap > 0, 11, 22).astype(np.int32)
    token[:, :, 0, 0] = 99
    ranks, radii = np.array([[1, 2], [1, 10]]), np.array([1e-6])
    return {"gap": gap, "token": token, "e1": axes[0], "e2": axes[1], "ranks": ranks, "radii": radii}


def steps() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Tables of the regimes: steps, avalanche, crossovers; the smallest step leaves the answer as it is."""
    sizes = 10.0 ** np.arange(-8.0, 0.0)
    walked, changed, borders = [], [], []
    for precision in ("float32", "bfloat16"):
        for direction in ("v1", "random"):
            for size in sizes:
                names = {"precision": precision, "direction": direction, "realised": size}
                gain = 0.0 if size < 2e-8 else 3.25 + size
                walked.append({**names, "gain_realised": gain, "regime": "stable" if gain == 0 else "signal"})
                for layer, tap in enumerate(("residual.0", "final")):
                    changed.append({**names, "tap": tap, "layer": layer, "changed_share": layer * size})
            lines = {"sigma": 3.25, "noise_floor": np.nan, "first_change": 1e-7, "crossover_seen": np.nan}
            borders.append({"precision": precision, "direction": direction, **lines})
    return pd.DataFrame(walked), pd.DataFrame(changed), pd.DataFrame(borders)


def picture(path: Path, *, model: str, prompt: str) -> None:
    """A figure as the workflow saves them."""
    figure = style.new_figure(height=1.2)
    figure.add_subplot().plot([0, 1, 2], [2, 0, 1])
    save.save(figure, [path], provenance=origin(model=model, prompt=prompt), dpi=80)


def summary(folder: Path, frame: pd.DataFrame) -> None:
    """A summary, as the rules write it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "summary.csv", frame, provenance=origin())


def make(folder: Path) -> Sources:
    """Write results and manifests below a folder; what a page is built from.

    One model's name, a prompt's text, a token and a cell try to run a program.
    """
    results = folder / "results"
    models = [*MODELS, EVIL]
    rows = [(model, "evil" if model == EVIL else "capital") for model in models]
    rows.append(("alpha", "border"))
    for number, (model, prompt) in enumerate(rows):
        drawn = folder / f"{number}.png"
        picture(drawn, model=model, prompt=prompt)
        for name in ("exp12", "exp7"):
            stem = results / name / model / prompt / ("float64" if name == "exp12" else "geometric/float64")
            stem.mkdir(parents=True)
            shutil.copy(drawn, stem / ("polar.png" if name == "exp12" else "maps.png"))
            texts = {
                "first_token": 11,
                "second_token": 22,
                "first_text": EVIL,
                "second_text": " b",
            }
            data = rays(number) if name == "exp12" else planes()
            facts = {"plane": [1, 2], "s_max": 1e-6} if name == "exp12" else texts
            file = "boundary.h5" if name == "exp12" else "planes.h5"
            write_hdf5(stem / file, data, attributes=facts, provenance=origin(model=model, prompt=prompt))
    walked, changed, borders = steps()
    folder_of_steps = results / "regimes/alpha/capital"
    folder_of_steps.mkdir(parents=True)
    shutil.copy(folder / "0.png", folder_of_steps / "regimes.png")
    write_parquet(folder_of_steps / "steps.parquet", walked, provenance={}, schema_version=1)
    write_parquet(folder_of_steps / "avalanche.parquet", changed, provenance={}, schema_version=1)
    write_csv(folder_of_steps / "crossovers.csv", borders, provenance={})
    frame = pd.DataFrame(rows, columns=["model", "prompt"])
    summary(results / "exp12", frame.assign(max_s_mean=np.arange(len(rows)) * 1.1e-9))
    summary(results / "exp7", frame.assign(text=[EVIL_TEXT if m == EVIL else "plain" for m, _ in rows]))
    summary(results / "regimes", frame[:1].assign(crossover=1e-6))
    pairs = [("alpha", "isa", "native", "avx2"), ("alpha", "kernel", "native", "eager")]
    summary(results / "exp4", pd.DataFrame(pairs, columns=["model", "pair", "platform_a", "platform_b"]))
    scores = [SCORES[row % len(SCORES)] if row < len(SCORES) else float(row) for row in range(ROWS)]
    summary(
        results / "critical_weights",
        pd.DataFrame(
            {
                "model": [MODELS[row % 2] for row in range(ROWS)],
                "tensor": [f"block.{row}.up" for row in range(ROWS)],
                "score": scores,
                "index": [2**62 + row * 7 % ROWS for row in range(ROWS)],
                "rank": pd.array([None if row == 3 else ROWS - row for row in range(ROWS)], dtype="Int64"),
            }
        ),
    )
    for model in models:
        manifest = {"alias": model, "model_type": "llama", "parameters": 1234567, "n_layers": 4, "d_model": 128}
        path = folder / "resources/models" / model / "manifest.json"
        path.parent.mkdir(parents=True)
        write_json(path, {**manifest, "source": "path", "repo": None, "weights_digest": "ab" * 32})
    return Sources(results, **files.present(folder), docs="../docs")
