"""One reading of the cross-examination: everything that is measured of a model as it is now, clean or changed."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tremor.errors import ConfigError
from tremor.evaluate import nll
from tremor.experiments.boundary import plane_directions
from tremor.floats import Arithmetic
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, base_point, to_array
from tremor.probe.boundary import find_boundaries
from tremor.probe.jacobian import JacobianOperator, jacobian
from tremor.probe.noise import noise_floor
from tremor.probe.response import Mode, Response
from tremor.probe.spectrum import Spectrum, dense_spectrum, lanczos_spectrum

Array = npt.NDArray[Any]
NAN = float("nan")


@dataclass(frozen=True)
class Plan:
    """How a reading is taken; the same for the clean and all changed models.

    Attributes:
        text: The prompt.
        bos: Its policy for the begin-of-text token.
        spectrum: Config block ``spectrum``: how the Jacobian is decomposed.
        top_k: Singular values that are kept.
        mode: Of the response.
        batch_size: Rows of its batches.
        repeats: Runs of its A/A control.
        max_memory: Bytes for transient tensors.
        noise_samples: Inputs that measure the floor.
        noise_seed: Their seed.
        angles: Rays of the boundary.
        s_max: Longest step.
        max_evaluations: Distinct inputs tried one by one.
        arithmetic: How the step is added.
        own_directions: Whether a changed model is probed at its own input and along its own directions.
    """

    text: str
    bos: Any
    spectrum: dict[str, Any]
    top_k: int
    mode: Mode
    batch_size: int
    repeats: int
    max_memory: float
    noise_samples: int
    noise_seed: int
    angles: int
    s_max: float
    max_evaluations: int
    arithmetic: Arithmetic
    own_directions: bool


@dataclass(frozen=True)
class Reading:
    """What was measured of one model.

    Attributes:
        status: "ok", or "not_finite" where the last hidden state of the prompt is NaN or infinite.
        singular_values: float64 [k], largest first.
        stable_rank: ||J||_F^2 / sigma_1^2; NaN for lanczos.
        leading: float64 [d_in], v_1.
        state: [d_out] the last hidden state at the base point.
        token: The most probable next token there (of equal ones the lowest id).
        margin: Its logit less that of the second, logits as computed, difference in float64.
        floor: Median of the rounding noise floor, hidden-state units.
        floor_changed: Share of its inputs that changed the answer.
        max_s: float32 [rays] largest stable step; empty if not measured.
        certified: bool [rays].
        censored: bool [rays].
        boundary: Median of max_s over rays, a censored ray counted as s_max; NaN where half or more are censored.
        nll: Corpus NLL of the held-out texts, nats a token; NaN if not measured or not finite.
        nll_status: "ok", "nan_logits", "inf_loss", or "not_measured".
    """

    status: str
    singular_values: Array
    stable_rank: float
    leading: Array
    state: Array
    token: int
    margin: float
    floor: float
    floor_changed: float
    max_s: Array
    certified: Array
    censored: Array
    boundary: float
    nll: float
    nll_status: str

    @property
    def sigma_1(self) -> float:
        """The largest singular value; NaN where there is none."""
        return float(self.singular_values[0]) if len(self.singular_values) else NAN

    def numbers(self) -> dict[str, Any]:
        """What statistics compare."""
        return {name: getattr(self, name) for name in ("status", "sigma_1", "floor", "boundary", "nll")}

    def differences(self, other: "Reading") -> list[str]:
        """Names of the fields whose bits are not those of another reading."""
        pairs = ((field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return [name for name, one, two in pairs if _bits(one) != _bits(two)]


def _bits(value: Any) -> Any:
    if isinstance(value, float):
        value = np.float64(value)
    return (value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray | np.generic) else value


class Examiner:
    """Takes readings of one model at one prompt.

    Args:
        loaded: The model, clean.
        plan: How.
        right: float32 [k, d_in], the clean model's right singular vectors.
        texts: Held-out texts.
        text_batch_size: Texts in one forward pass.

    Raises:
        ConfigError: The spectrum holds fewer than two vectors, which span no plane.
    """

    def __init__(
        self, loaded: LoadedModel, plan: Plan, right: Array, texts: nll.Texts, *, text_batch_size: int
    ) -> None:
        if len(right) < 2:
            raise ConfigError("cross needs two singular vectors; set spectrum.top_k to at least 2")
        self.loaded, self.plan, self.texts, self.text_batch_size = loaded, plan, texts, text_batch_size
        self.base = base_point(loaded, plan.text, bos=plan.bos)
        self.theta, self.directions = plane_directions(right, (1, 2), plan.angles)

    def read(self, *, deep: bool) -> Reading:
        """Measure the model as it is now.

        Args:
            deep: Whether boundaries and likelihood are measured too.

        Raises:
            PlatformError: The changed model's answers are not a function of the input's bits.
            NumericsError: A Jacobian, or an answer to a nudge, is not finite though the base state is.
        """
        plan = self.plan
        base = base_point(self.loaded, plan.text, bos=plan.bos) if plan.own_directions else self.base
        found, status = self._likelihood() if deep else (NAN, "not_measured")
        if not _finite(self.loaded, base):
            return _nothing(found, status)
        spectrum, matrix = self._spectrum(base)
        response = Response(
            self.loaded, base, mode=plan.mode, batch_size=plan.batch_size, max_memory=plan.max_memory,
            repeats=plan.repeats,
        )  # fmt: skip
        floor = noise_floor(response, self._product(base, matrix), samples=plan.noise_samples, seed=plan.noise_seed)
        token, margin = _choice(self.loaded, response.h0)
        rays = self._boundary(response, spectrum) if deep else _no_rays()
        values = spectrum.singular_values
        whole = None if matrix is None else float(np.sum(matrix**2))
        return Reading(
            status="ok",
            singular_values=values[: plan.top_k].copy(),
            stable_rank=NAN if whole is None else whole / float(values[0]) ** 2,
            leading=spectrum.right[0].copy(),
            state=response.h0.copy(),
            token=token,
            margin=margin,
            floor=floor.median_l2,
            floor_changed=floor.changed / floor.samples,
            **rays,
            nll=found,
            nll_status=status,
        )

    def _likelihood(self) -> tuple[float, str]:
        found = nll.evaluate(self.loaded, self.texts, batch_size=self.text_batch_size)
        return (found.nll if found.overall == "ok" else NAN), found.overall

    def _spectrum(self, base: BasePoint) -> tuple[Spectrum, Array | None]:
        """The spectrum, and the whole Jacobian [d_out, d_in] in float64 where the method forms it."""
        own = self.plan.spectrum
        if own["method"] == "dense":
            matrix = jacobian(self.loaded, base, method=own["jacobian"], max_memory=self.plan.max_memory)
            return dense_spectrum(matrix, device=self.loaded.device), matrix.astype(np.float64)
        keys = ("top_k", "tolerance", "max_iterations", "seed")
        return lanczos_spectrum(JacobianOperator(self.loaded, base), **{key: own[key] for key in keys}), None

    def _product(self, base: BasePoint, matrix: Array | None) -> Any:
        if matrix is not None:
            return lambda steps: steps @ matrix.T
        operator = JacobianOperator(self.loaded, base)
        return lambda steps: np.array([operator.matvec(step) for step in steps])

    def _boundary(self, response: Response, spectrum: Spectrum) -> dict[str, Any]:
        directions = self.directions
        if self.plan.own_directions:
            _, directions = plane_directions(spectrum.right[:2].astype(np.float32), (1, 2), self.plan.angles)
        found = find_boundaries(
            response, directions, s_max=self.plan.s_max, arithmetic=self.plan.arithmetic,
            max_evaluations=self.plan.max_evaluations,
        )  # fmt: skip
        # A censored ray lies beyond s_max, wherever that is: the median is known while fewer than half are.
        known = 2 * int(found.censored.sum()) < len(found.censored)
        return {
            "max_s": found.max_s,
            "certified": found.certified,
            "censored": found.censored,
            "boundary": float(np.median(found.max_s.astype(np.float64))) if known else NAN,
        }


def _no_rays() -> dict[str, Any]:
    nothing = np.zeros(0, dtype=bool)
    return {"max_s": np.zeros(0, dtype=np.float32), "certified": nothing, "censored": nothing, "boundary": NAN}


def _nothing(found: float, status: str) -> Reading:
    """The reading of a model without a finite state."""
    empty = np.zeros(0)
    return Reading(
        status="not_finite", singular_values=empty, stable_rank=NAN, leading=empty, state=empty, token=-1, margin=NAN,
        floor=NAN, floor_changed=NAN, **_no_rays(), nll=found, nll_status=status,
    )  # fmt: skip


@torch.no_grad()
def _finite(loaded: LoadedModel, base: BasePoint) -> bool:
    state = loaded.anatomy.base(inputs_embeds=base.embeddings[None], use_cache=False).last_hidden_state[0, -1]
    return bool(torch.isfinite(state).all())


@torch.no_grad()
def _choice(loaded: LoadedModel, state: Array) -> tuple[int, float]:
    """The most probable token of a state [d_out], and how far its logit is above the next one's."""
    weight = loaded.anatomy.unembedding.weight
    assert isinstance(weight, torch.Tensor)
    logits = to_array(loaded.anatomy.unembed(torch.from_numpy(state)[None].to(weight)))[0].astype(np.float64)
    token = int(np.argmax(logits))
    return token, float(logits[token] - np.delete(logits, token).max())
