"""Figures of causal tracing: which state, by layer and position, brings an answer back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tremor.figures import style

ROLES = {  # in the order of a sentence
    "begin": "before the subject",
    "subject_first": "first of the subject",
    "subject_middle": "inside the subject",
    "subject_last": "last of the subject",
    "between": "after the subject",
    "last": "last of the prompt",
}
KINDS = {"output": "residual stream", "mixer": "mixer's branch", "mlp": "MLP's branch"}


@style.styled
def roles(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Share of the answer's log-probability that a restored state brings back, by layer and role of the position.

    Args:
        table: Summary of delta/tracing.
        title: Text above the figure.
    """
    models = list(dict.fromkeys(table["model"]))
    kinds = [kind for kind in KINDS if kind in set(table["kind"])]
    names = [role for role in ROLES if role in set(table["role"])]
    figure = style.new_figure(width="page", height=(0.7 + 0.17 * len(names)) * len(models) + 0.2)
    panels = figure.subplots(len(models), len(kinds), sharey=True, squeeze=False)
    image: Any = None
    for line, model in zip(panels, models, strict=True):
        for axes, kind in zip(line, kinds, strict=True):
            own = table[(table["model"] == model) & (table["kind"] == kind)]
            if own.empty:
                axes.set_axis_off()
                axes.text(0.5, 0.5, f"{model} has no\n{KINDS[kind]}", ha="center", va="center")
                continue
            wide = own.pivot_table(index="role", columns="layer", values="recovered").reindex(names)
            # Beyond 0 and 1 lies little: a state that makes the answer worse than the noise did.
            image = axes.imshow(
                100 * wide.to_numpy(dtype=float),
                cmap="viridis",
                vmin=0,
                vmax=100,
                aspect="auto",
                interpolation="nearest",
            )
            axes.set_xticks(np.arange(wide.shape[1]), [str(c) for c in wide.columns])
            axes.set_yticks(np.arange(len(names)), [ROLES[name] for name in names])
            axes.set_title(f"{model}: {KINDS[kind]}", fontsize=7)
            axes.set_xlabel("layer")
    figure.colorbar(image, ax=list(panels.ravel()), label="log-probability\nbrought back (%)", extend="both")
    style.set_title(figure, title)
    return figure


@style.styled
def example(traces: Mapping[str, pd.DataFrame], *, title: str | None = None) -> Figure:
    """One fact in full: every position, by its token, and every layer.

    Args:
        traces: Table traces.csv of each model; the first fact that all have is drawn, else each model's first.
        title: Text above the figure.
    """
    common = [
        t
        for t in dict.fromkeys(next(iter(traces.values()))["text"])
        if all(t in set(f["text"]) for f in traces.values())
    ]
    chosen = {m: f[f["text"] == (common[0] if common else f["text"].iloc[0])] for m, f in traces.items()}
    kinds = [kind for kind in KINDS if any(kind in set(f["kind"]) for f in chosen.values())]
    rows = max(int(f["position"].max()) + 1 for f in chosen.values())
    figure = style.new_figure(width="page", height=(0.75 + 0.15 * rows) * len(chosen) + 0.2)
    panels = figure.subplots(len(chosen), len(kinds), squeeze=False)
    for line, (model, own) in zip(panels, chosen.items(), strict=True):
        clean, noisy = float(own["clean_logprob"].iloc[0]), float(own["corrupted_logprob"].iloc[0])
        image: Any = None
        tokens = own.drop_duplicates("position").sort_values("position")
        texts = [
            _token(token) + ("*" if role.startswith("subject") else "")
            for token, role in zip(tokens["token"], tokens["role"], strict=True)
        ]
        for number, (axes, kind) in enumerate(zip(line, kinds, strict=True)):
            part = own[own["kind"] == kind]
            if part.empty:
                axes.set_axis_off()
                axes.text(0.5, 0.5, f"{model} has no\n{KINDS[kind]}", ha="center", va="center")
                continue
            wide = part.pivot_table(index="position", columns="layer", values="restored_logprob").to_numpy(dtype=float)
            image = axes.imshow(
                wide,
                cmap="viridis",
                vmin=min(noisy, clean),
                vmax=max(noisy, clean),
                aspect="auto",
                interpolation="nearest",
            )
            axes.set_xticks(np.arange(wide.shape[1]), [str(c) for c in sorted(set(part["layer"]))])
            axes.set_yticks(np.arange(len(texts)), texts if number == 0 else [""] * len(texts))
            axes.set_title(f"{model}: {KINDS[kind]}", fontsize=7)
            axes.set_xlabel("layer")
        figure.colorbar(image, ax=list(line), label=f"log p(“{own['answer'].iloc[0]}”) (nats)", extend="both")
    note = "* subject, made unreadable; the scale runs from the corrupted to the clean run"
    style.set_title(figure, title or note)
    return figure


def _token(text: str) -> str:
    """A token as a label: its leading space is not seen, and a line break would break the axis."""
    return repr(text)[1:-1].strip() or repr(text)
