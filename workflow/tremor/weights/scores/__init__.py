"""Scores of single weights, streamed tensor by tensor.

    for name, scores in score("taylor_abs", loaded, texts, selection=selection):
        ...

`SCORES` names them all. Several that share a backward pass are ranked together by :func:`rankings`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from tremor.errors import ConfigError
from tremor.models.loader import LoadedModel
from tremor.weights.quality import Terms
from tremor.weights.rank import Ranking, Scope
from tremor.weights.scores import ablation, curvature, gradients, inputs, magnitude, path
from tremor.weights.scores.base import Options, Scored, Task, encode
from tremor.weights.select import Selection, select

__all__ = ["SCORES", "Options", "Scored", "Scorer", "Task", "encode", "prepare", "rankings", "score"]

DEFAULTS = Options()
Needs = Literal["weights", "gradients", "activations", "curvature", "forwards"]


@dataclass(frozen=True)
class Scorer:
    """A score.

    Attributes:
        stream: Gives name and scores of each tensor, float32 or wider, of the parameter's shape.
        needs: What it is computed from.
        seeded: Whether it draws random numbers. The others are deterministic: that two seeds agree says nothing.
    """

    stream: Callable[[Task], Iterator[Scored]]
    needs: Needs
    seeded: bool = False


SCORES: Mapping[str, Scorer] = {
    "magnitude": Scorer(magnitude.magnitude, "weights"),
    "z_score": Scorer(magnitude.z_score, "weights"),
    "z_score_global": Scorer(magnitude.z_score_global, "weights"),
    "z_score_robust": Scorer(magnitude.z_score_robust, "weights"),
    "random": Scorer(magnitude.random_order, "weights", seeded=True),
    "taylor_signed": Scorer(gradients.taylor_signed, "gradients"),
    "taylor_abs": Scorer(gradients.taylor_abs, "gradients"),
    "grad_squared": Scorer(gradients.grad_squared, "gradients"),
    "fisher_token": Scorer(gradients.fisher_token, "gradients"),
    "fisher_true": Scorer(gradients.fisher_true, "gradients", seeded=True),
    "hutchinson": Scorer(curvature.hutchinson, "curvature", seeded=True),
    "obd": Scorer(curvature.obd, "curvature", seeded=True),
    "wanda": Scorer(inputs.wanda, "activations"),
    "obs_diag": Scorer(inputs.obs_diag, "activations"),
    "activation_spike": Scorer(inputs.activation_spike, "activations"),
    "weight_ig": Scorer(path.weight_ig, "gradients"),
    "loss_ablation": Scorer(ablation.loss_ablation, "forwards"),
}


def scorer(name: str) -> Scorer:
    """A score by name.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in SCORES:
        raise ConfigError(f"there is no score {name!r}; choose among {', '.join(SCORES)}")
    return SCORES[name]


def prepare(
    name: str,
    loaded: LoadedModel,
    texts: Sequence[str],
    *,
    selection: Selection | None = None,
    options: Options = DEFAULTS,
    mine: frozenset[str] | None = None,
) -> Task:
    """The job of a score: texts become token ids where it reads any; `mine` names the tensors that it scores.

    Raises:
        ConfigError: There is no such score.
        PromptError: It needs texts and there are none, or one is too short.
    """
    reads = scorer(name).needs != "weights"
    chosen = select(loaded.anatomy) if selection is None else selection
    return Task(loaded, encode(loaded, texts, options) if reads else [], chosen, options, mine)


def score(
    name: str,
    loaded: LoadedModel,
    texts: Sequence[str] = (),
    *,
    selection: Selection | None = None,
    options: Options = DEFAULTS,
) -> Iterator[Scored]:
    """Stream the scores of one kind.

    Args:
        name: Of `SCORES`.
        loaded: The model; its weights are as before when the stream ends.
        texts: Calibration texts; not read by scores that need weights only.
        selection: The scalars to score; None for all matrices.
        options: Settings.

    Returns:
        Tensor name and scores of the parameter's shape, in the order of the model's parameters. Scalars of a tensor
        outside the selection may have any value.
    """
    return scorer(name).stream(prepare(name, loaded, texts, selection=selection, options=options))


@dataclass(frozen=True)
class Ranked:
    """Rankings by one score.

    Attributes:
        tables: One table of the ranking schema for each direction asked for ("top", "bottom").
        seconds: Wall time of scoring and ranking; shared passes give each of their scores the whole time.
        terms: What the score says about its own quality.
    """

    tables: dict[str, pd.DataFrame]
    seconds: float
    terms: Terms

    @property
    def notes(self) -> dict[str, Any]:
        """What the score says about its own quality over all tensors that were scored."""
        return self.terms.notes()


def rankings(
    names: Sequence[str],
    loaded: LoadedModel,
    texts: Sequence[str],
    k: int | None = None,
    *,
    selection: Selection | None = None,
    scope: Scope = "global",
    fraction: float | None = None,
    options: Options = DEFAULTS,
    directions: Sequence[Literal["top", "bottom"]] = ("top",),
    run_id: str = "",
    mine: frozenset[str] | None = None,
) -> dict[str, Ranked]:
    """Rank the weights by several scores; those that share a backward pass do so in one.

    Args:
        names: Scores, of `SCORES`.
        loaded: The model.
        texts: Calibration texts.
        k: How many in each list of the scope.
        selection: The scalars to score; None for all matrices.
        scope: See :func:`tremor.weights.rank.top_k`.
        fraction: Instead of `k`.
        options: Settings of the scores.
        directions: "top" for the largest scores, "bottom" for the smallest.
        run_id: Name for the column of that name.
        mine: Names of the tensors that are scored, for :func:`tremor.weights.merge.merged`; None for all.

    Returns:
        By the score's name, in the order asked for.
    """
    groups = [[name for name in dict.fromkeys(names) if name in family.SHARED] for family in (gradients, curvature)]
    shared = {name for group in groups for name in group}
    groups += [[name] for name in dict.fromkeys(names) if name not in shared]
    found: dict[str, Ranked] = {}
    for group in filter(None, groups):
        started = time.perf_counter()
        task = prepare(group[0], loaded, texts, selection=selection, options=options, mine=mine)
        makers = {
            (name, direction): Ranking(
                k, selection=task.selection, scope=scope, largest=direction == "top", fraction=fraction, scorer=name,
                run_id=run_id,
            )
            for name in group
            for direction in directions
        }  # fmt: skip
        for tensor, scores in _together(task, group):
            for (name, _), ranking in makers.items():
                ranking.add(tensor, scores[name])
        partial = mine is not None
        tables = {name: {str(d): makers[name, d].frame(partial=partial) for d in directions} for name in group}
        seconds = time.perf_counter() - started
        for name in group:
            found[name] = Ranked(tables[name], seconds, task.terms.get(name, Terms()))
    return {name: found[name] for name in names}


def _together(task: Task, group: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for family in (gradients, curvature):
        if len(group) > 1 and group[0] in family.SHARED:
            yield from family.shared(task, group)
            return
    for tensor, scores in scorer(group[0]).stream(task):
        yield tensor, {group[0]: scores}
