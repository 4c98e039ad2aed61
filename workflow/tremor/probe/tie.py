"""Ties: an input near the prompt at which the two leading tokens are equally likely, to the last representable step.

Newton steps along the gradient of the gap lead across the tie in a few evaluations; regula falsi (Illinois) and
bisection then close the bracket on the lattice of distinct inputs, until no float lies between its ends. The originals'
experiment 6 takes 500 to 1000 Adam steps and stops wherever it is.

Two gaps, the originals' two methods. ``geometric``: h . (v1 - v2) of a fixed pair of tokens, in float64, the finest
measure of the state. ``probability``: log p1 - log p2 of the model's own logits, the second token chosen anew at every
evaluation; those logits are rounded, so this gap is often exactly 0 within a whole neighbourhood.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from tremor import floats
from tremor.errors import NumericsError
from tremor.probe.attention import differentiable
from tremor.probe.base import to_array, to_tensor
from tremor.probe.jacobian import LastPositionMap
from tremor.probe.readout import Decisions, Readout

Array = npt.NDArray[Any]
TieMethod = Literal["geometric", "probability"]
STAGES = ("start", "newton", "regula falsi", "bisection")
OVERSHOOT = 1.05  # a little beyond the linear prediction: the far side of the tie is wanted, to have a bracket
NOISE = 8.0  # gaps below so many ulps of a logit are rounding: only their sign is used


@dataclass(frozen=True)
class Trial:
    """One evaluation of the search."""

    x: Array  # [d_in]
    gap: float  # in the measure of the method; positive where the first token leads
    second: int  # the token the first one was compared with
    holds: bool  # whether the two had the two highest logits
    stage: str  # one of STAGES
    decision: Decisions


@dataclass(frozen=True)
class Gaps:
    """The same gap in the roundings in which it is met; logits are the model's, dots are of its stored rows."""

    float64: float  # h . (v1 - v2) + b1 - b2, rows and products in float64
    dot: float  # dot(h, v1 - v2) + (b1 - b2) in the model's type
    difference_of_dots: float  # (dot(h, v1) + b1) - (dot(h, v2) + b2) in the model's type
    unembed: float  # difference of the model's logits
    probability: float  # p1 - p2 from those logits
    logit_ulp: float  # spacing of floats at the larger of the two logits: what `unembed` can resolve


@dataclass(frozen=True)
class Tie:
    """An input at which two tokens are tied, and how it was found."""

    x: Array  # [d_in] carrier dtype of the base point
    first: int  # the token that leads at the prompt
    second: int  # the one it is tied with
    method: TieMethod
    trials: tuple[Trial, ...]  # in order
    gradients: int  # gradients taken, each a forward and a backward
    reselections: int  # how often the second token was replaced by one that had overtaken the pair
    holds: bool  # whether the two have the highest logits at the tie
    closed: bool  # True: the gap is exactly 0, or no float input lies between the ends of the bracket
    gaps: Gaps
    distance: float  # norm of x minus the prompt's embedding
    bracket_l2: float  # distance of the two ends of the last bracket; 0 where the gap is exactly 0

    @property
    def evaluations(self) -> int:
        """Inputs that the model ran, gradients included."""
        return len(self.trials) + self.gradients


class _Search:
    def __init__(self, readout: Readout, method: TieMethod, budget: int) -> None:
        if method not in ("geometric", "probability"):
            raise ValueError(f"unknown method '{method}'; one of geometric, probability")
        self.readout, self.method, self.budget = readout, method, budget
        self.base = readout.response.base
        self.trials: list[Trial] = []
        self.gradients = 0
        self._map = LastPositionMap(readout.response.loaded, self.base)
        self._prefix = self._map.prefix(1)
        start = readout.decide(self.base.x[None])
        self.first, self.second = int(start.token[0]), int(start.runner_up[0])

    @property
    def spent(self) -> bool:
        return len(self.trials) + self.gradients >= self.budget

    def judge(self, x: Array, decision: Decisions, stage: str) -> Trial:
        """The gap of an answer that is at hand; the pair is (first, second) as they now are."""
        top, logits = decision.top[0].astype(np.float64), decision.logits[0].astype(np.float64)
        if self.method == "geometric":
            second = self.second
            rows, offset = self.readout.direction(self.first, second)
            gap = float(decision.final[0].astype(np.float64) @ rows + offset)
        else:
            leads = int(decision.token[0]) == self.first
            second = int(decision.runner_up[0] if leads else decision.token[0])
            gap = float(logits[0] - (top[1] if leads else top[0]))
        pair = {self.first, second}
        holds = {int(decision.token[0]), int(decision.runner_up[0])} == pair
        return Trial(x, gap, second, holds, stage, decision)

    def ask(self, x: Array, stage: str) -> Trial:
        trial = self.judge(x, self.readout.decide(x[None], (self.first,)), stage)
        self.trials.append(trial)
        return trial

    def gradient(self, trial: Trial) -> npt.NDArray[np.float64]:
        """Gradient [d_in] of the gap at a trial."""
        self.gradients += 1
        loaded = self.readout.response.loaded
        with differentiable(loaded), torch.enable_grad():
            row = to_tensor(trial.x, self.base.embeddings)[None].requires_grad_(True)
            final = self._map.forward(row, self._prefix)
            if self.method == "geometric":
                rows, _ = self.readout.direction(self.first, trial.second)
                gap = final[0].double() @ torch.as_tensor(rows, device=final.device)
            else:
                logits = loaded.anatomy.unembed(final)[0]
                gap = logits[self.first] - logits[trial.second]
            (slope,) = torch.autograd.grad(gap, row)
        return to_array(slope[0]).astype(np.float64)

    def cross(self, trial: Trial) -> tuple[Trial, Trial]:
        """Newton steps until the sign of the gap has changed: the last two inputs, the first token leading at one."""
        damping = 1.0
        slope: npt.NDArray[np.float64] | None = None
        while not self.spent and trial.gap != 0:
            if slope is None:
                slope = self.gradient(trial)
            square = float(slope @ slope)
            if square == 0:
                raise NumericsError("the gap of the two leading tokens does not depend on the input; no tie to find")
            step = damping * OVERSHOOT * trial.gap / square * slope
            wanted = floats.round_to(trial.x.astype(np.float64) - step, self.base.fmt)
            if np.array_equal(wanted, trial.x) or self.spent:
                break
            found = self.ask(wanted, "newton")
            if found.gap * trial.gap <= 0:
                return trial, found
            if abs(found.gap) < abs(trial.gap):
                trial, slope, damping = found, None, 1.0
            else:
                damping /= 4
        if trial.gap == 0:
            return trial, trial
        raise NumericsError(
            f"no tie of the two leading tokens within {self.budget} evaluations (gap {trial.gap:.3g} left); raise "
            "exp6.max_evaluations, or take a prompt whose leading tokens are closer"
        )

    def close(self, a: Trial, b: Trial) -> tuple[Trial, Trial, bool]:
        """Shrink a bracket until its ends are neighbours among the inputs between them, or a gap is exactly 0.

        Regula falsi with Illinois' halving of the weight of an end that stays (Dowell and Jarratt 1971); bisection
        where three steps have not shrunk the bracket by 8, and where gaps are rounding noise.

        Returns:
            Both ends, and whether the search is finished: False where the budget ended it.
        """
        start, along = a.x.astype(np.float64), b.x.astype(np.float64) - a.x.astype(np.float64)
        low, high = 0.0, 1.0
        weight_a, weight_b = a.gap, b.gap
        widths: list[float] = []
        stayed = ""
        halve = False
        while a.gap != 0 and b.gap != 0:
            t = low + (high - low) / 2
            if not low < t < high:
                return a, b, True
            slow = len(widths) >= 3 and high - low > widths[-3] / 8
            noise = NOISE * _logit_ulp(a.decision, self.readout)
            stage = "bisection"
            if not halve and not slow and max(abs(a.gap), abs(b.gap)) > noise:
                guess = low + (high - low) * weight_a / (weight_a - weight_b)
                if low < guess < high:
                    t, stage = guess, "regula falsi"
            x = floats.round_to(start + t * along, self.base.fmt)
            # Each coordinate is monotone in t: an input equal to an end's is equal all the way there, without a run.
            halve = x.tobytes() in (a.x.tobytes(), b.x.tobytes())
            if halve:
                low, high = (t, high) if x.tobytes() == a.x.tobytes() else (low, t)
                continue
            if self.spent:
                return a, b, False
            widths = [] if stage == "bisection" else [*widths, high - low]
            found = self.ask(x, stage)
            if found.gap * a.gap > 0:
                weight_b = weight_b / 2 if stayed == "b" else b.gap
                a, low, weight_a, stayed = found, t, found.gap, "b"
            else:
                weight_a = weight_a / 2 if stayed == "a" else a.gap
                b, high, weight_b, stayed = found, t, found.gap, "a"
        return a, b, True

    def reselect(self, best: Trial) -> None:
        """Take the token that has overtaken the pair as the second one."""
        tokens = (int(best.decision.token[0]), int(best.decision.runner_up[0]))
        self.second = next(token for token in tokens if token not in (self.first, self.second))
        self.trials = [self.judge(t.x, t.decision, t.stage) for t in self.trials]


def _logit_ulp(decision: Decisions, readout: Readout) -> float:
    fmt = str(readout.response.loaded.anatomy.head.dtype).removeprefix("torch.")
    return float(floats.ulp(np.abs(decision.top[0]).max(), fmt))


def find_tie(readout: Readout, *, method: TieMethod, max_evaluations: int = 30) -> Tie:
    """Find an input near the base point at which the two leading tokens are tied.

    Args:
        readout: The model's choice around the prompt; its mode and batch shape are those of all descendants.
        method: ``geometric`` or ``probability``, see the module.
        max_evaluations: Most inputs run, gradients included.

    Raises:
        NumericsError: the budget ended before the sign of the gap had changed once, or other tokens kept overtaking.
    """
    search = _Search(readout, method, max_evaluations)
    here = search.ask(search.base.x, "start")
    a, b = search.cross(here)
    a, b, closed = search.close(a, b)
    reselections = 0
    best = _best(search.trials)
    while not best.holds:
        # A third token has passed the pair. It trails at the prompt, so a tie with it lies nearer to the prompt.
        if reselections == 3 or search.spent:
            raise NumericsError(
                f"other tokens overtake the two leading ones on the way to their tie (after {len(search.trials)} "
                "evaluations); raise exp6.max_evaluations or use another prompt"
            )
        search.reselect(best)
        reselections += 1
        leading = [t for t in search.trials if t.gap > 0]
        trailing = [t for t in search.trials if t.gap <= 0]
        if not trailing or not leading:
            break
        a, b, closed = search.close(min(leading, key=lambda t: t.gap), max(trailing, key=lambda t: t.gap))
        best = _best(search.trials)
    return Tie(
        x=best.x,
        first=search.first,
        second=best.second,
        method=method,
        trials=tuple(search.trials),
        gradients=search.gradients,
        reselections=reselections,
        holds=best.holds,
        closed=closed,
        gaps=gaps(readout, best.decision, search.first, best.second),
        distance=float(np.linalg.norm(best.x.astype(np.float64) - search.base.x.astype(np.float64))),
        bracket_l2=0.0 if best.gap == 0 else float(np.linalg.norm(a.x.astype(np.float64) - b.x.astype(np.float64))),
    )


def _best(trials: list[Trial]) -> Trial:
    return min(trials, key=lambda t: abs(t.gap))


@torch.no_grad()
def gaps(readout: Readout, decision: Decisions, first: int, second: int) -> Gaps:
    """The gap of two tokens at one answer, in all its roundings."""
    module = readout.response.loaded.anatomy.unembedding
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    state = to_tensor(decision.final[0], weight)
    v1, v2 = weight[first], weight[second]
    bias = getattr(module, "bias", None)
    b1, b2 = (bias[first], bias[second]) if bias is not None else (torch.zeros_like(v1[0]), torch.zeros_like(v1[0]))
    rows, offset = readout.direction(first, second)
    logits = decision.top[0].astype(np.float64)
    order = (first, second) if int(decision.token[0]) == first else (second, first)
    sign = 1.0 if order == (first, second) else -1.0
    if {int(decision.token[0]), int(decision.runner_up[0])} != {first, second}:
        raise NumericsError(f"tokens {first} and {second} are not the two leading ones here")
    shares = np.exp(logits - decision.log_normaliser[0])
    return Gaps(
        float64=float(decision.final[0].astype(np.float64) @ rows + offset),
        dot=float(torch.dot(state, v1 - v2) + (b1 - b2)),
        difference_of_dots=float((torch.dot(state, v1) + b1) - (torch.dot(state, v2) + b2)),
        unembed=sign * float(logits[0] - logits[1]) + 0.0,
        probability=sign * float(shares[0] - shares[1]) + 0.0,
        logit_ulp=_logit_ulp(decision, readout),
    )
