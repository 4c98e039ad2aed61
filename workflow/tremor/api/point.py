"""A base point: one prompt at which a model is asked. Its module needs torch, so a model must be loaded first."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.api import results
from tremor.api.places import block, restarted
from tremor.compare.bits import Difference, compare_vectors
from tremor.errors import ConfigError
from tremor.experiments import nudges
from tremor.experiments.boundary import plane_directions
from tremor.probe.base import BasePoint
from tremor.probe.boundary import find_boundaries
from tremor.probe.jacobian import JacobianOperator, jacobian
from tremor.probe.readout import Readout
from tremor.probe.response import Response
from tremor.probe.spectrum import dense_spectrum, lanczos_spectrum
from tremor.store.arrays import Array, Bf16

if TYPE_CHECKING:
    from tremor.api.model import Model


@dataclass(frozen=True, eq=False)
class Point:
    """A prompt as a model reads it; what is nudged is the input embedding of its last token.

    Attributes:
        model: The model.
        base: Its ids, embeddings and the vector x.
    """

    model: "Model"
    base: BasePoint

    def __repr__(self) -> str:
        return f"Point({self.model.name!r}, {self.base.text!r}, {len(self.base.ids)} tokens, {self.base.fmt})"

    @property
    def text(self) -> str:
        """The prompt."""
        return self.base.text

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """[T] int64, token ids."""
        return self.base.ids

    @property
    def x(self) -> Array:
        """[d_in], input embedding of the last token, float32 (float64 for a float64 model)."""
        return self.base.x

    @property
    def tokens(self) -> list[str]:
        """Text of each token."""
        return [str(self.model.tokenizer.decode([int(token)])) for token in self.ids]

    @property
    def _title(self) -> str:
        return f"{self.model.name}, {self.text!r}"

    def spectrum(self, **settings: Any) -> results.Spectrum:
        """Singular values and vectors of d(final state) / d(last input embedding) (docs/spectrum.md).

        Args:
            settings: Of the block ``spectrum``: method ("dense" or "lanczos"), top_k, ...

        Raises:
            ConfigError: no such setting, or more vectors are asked for than there are.
            NumericsError: the derivative is NaN or infinite.
        """
        own = block(self.model.config, "spectrum", settings)
        self.model.ready()
        loaded = self.model.session.loaded
        matrix: Array | None = None
        if own["method"] == "dense":
            matrix = jacobian(loaded, self.base, method=own["jacobian"], max_memory=self.model.session.max_memory)
            found = dense_spectrum(matrix, device=loaded.device)
        else:
            operator = JacobianOperator(loaded, self.base)
            if own["top_k"] > min(operator.shape):
                raise ConfigError(
                    f"top_k is {own['top_k']}, but there are {min(operator.shape)} singular values; lower it"
                )
            limits = {name: own[name] for name in ("top_k", "tolerance", "max_iterations", "seed")}
            found = lanczos_spectrum(operator, **limits)
        quality = asdict(found)
        for name in ("left", "right"):  # float32, as the workflow stores them for all that goes along them
            quality[name] = quality[name].astype(np.float32)
        frobenius = None if matrix is None else float(np.linalg.norm(matrix.astype(np.float64)))
        return results.Spectrum(**quality, jacobian=matrix, frobenius=frobenius, title=self._title)

    def boundary(self, direction: npt.ArrayLike, **settings: Any) -> results.Boundary:
        """How far along a direction, or several, not a bit of the final state changes (docs/exp12.md).

        Args:
            direction: [d_in] or [n, d_in], used as float32 and not normalised.
            settings: Of the block ``exp12``: s_max, threshold, method, max_evaluations, tolerance; and ``arithmetic``,
                "float64" or "float32".

        Raises:
            ConfigError: no such setting, or a direction of another length.
            NumericsError: an answer is NaN or infinite.
        """
        rays = self._directions(direction)
        return results.Boundary(direction=rays, title=self._title, **self._boundaries(rays, settings))

    def boundary_in_plane(
        self, directions: npt.ArrayLike, plane: Sequence[int] | None = None, **settings: Any
    ) -> results.PlaneBoundary:
        """The boundary around the prompt in the plane of two directions, angle by angle: exp12.

        Args:
            directions: [k, d_in], such as ``spectrum.right``.
            plane: Ranks of the two, from 1; None for ``exp12.plane``.
            settings: As of :meth:`boundary`, and ``angles``, evenly spaced over the circle.

        Raises:
            ConfigError: no such setting, a rank that there is not, or the same twice.
            NumericsError: an answer is NaN or infinite.
        """
        changes = {k: v for k, v in settings.items() if k != "arithmetic"}
        own = block(self.model.config, "exp12", changes if plane is None else {**changes, "plane": list(plane)})
        first, second = own["plane"]
        theta, rays = plane_directions(self._directions(directions), (first, second), int(own["angles"]))
        return results.PlaneBoundary(direction=rays, theta=theta, title=self._title, **self._boundaries(rays, settings))

    def _boundaries(self, rays: Array, settings: Mapping[str, Any]) -> dict[str, Any]:
        own = block(self.model.config, "exp12", {k: v for k, v in settings.items() if k != "arithmetic"})
        names = ("s_max", "threshold", "method", "max_evaluations", "tolerance")
        arithmetic = self._arithmetic(settings.get("arithmetic"))
        search = {name: own[name] for name in names}

        def find() -> dict[str, Any]:
            return asdict(find_boundaries(self.response(), rays, arithmetic=arithmetic, **search))

        self.model.ready()
        return restarted(find)

    def _directions(self, direction: npt.ArrayLike) -> Array:
        rays = np.atleast_2d(np.asarray(direction, dtype=np.float32))
        if rays.ndim != 2 or rays.shape[1] != len(self.x) or not np.isfinite(rays).all():
            width = len(self.x)
            raise ConfigError(f"a direction must be [{width}] or [n, {width}] finite numbers, not {rays.shape}")
        return rays

    def _arithmetic(self, asked: str | None) -> Any:
        known = ("float64", "float32")
        if asked is not None and asked not in known:
            raise ConfigError(f"arithmetic {asked!r} is unknown; use one of {', '.join(known)}")
        return asked or self.model.config.probe.arithmetic[0]

    def response(self) -> Response:
        """What the model answers to exact inputs, its controls passed: for searches of your own."""
        session = self.model.session
        probe = self.model.probe
        return nudges.respond(session.loaded, self.base, ("final",), probe=probe, max_memory=session.max_memory)

    def step(self, direction: npt.ArrayLike, s: float, *, arithmetic: str | None = None) -> results.Step:
        """One nudge of s times the direction: what changes of the input and of the final state, bit for bit.

        Args:
            direction: [d_in].
            s: The step.
            arithmetic: "float64" or "float32"; None for the first of ``probe.arithmetic``.

        Raises:
            ConfigError: no finite step, a direction of another length, or no such arithmetic.
            NumericsError: an answer is NaN or infinite.
        """
        if not np.isfinite(s):
            raise ConfigError(f"a step must be a finite number, not {s}; where a ray is censored there is no min_t")
        (ray,) = self._directions(direction)
        how = self._arithmetic(arithmetic)
        self.model.ready()

        def ask() -> results.Step:
            readout = Readout(self.response(), max_memory=self.model.session.max_memory)
            moved = floats.nudge(self.x, ray, s, arithmetic=how, fmt=self.base.fmt)
            told = readout.decide(np.stack([self.x, moved]))
            fmt = readout.response.output_format
            before, after = (str(self.model.tokenizer.decode([int(token)])) for token in told.token)
            margins = (told.top[:, 0].astype(np.float64) - told.top[:, 1].astype(np.float64)).tolist()
            return results.Step(
                s=float(s),
                embedding=moved,
                hidden=told.final[1],
                input=_difference(self.x, moved, self.base.fmt),
                output=_difference(told.final[0], told.final[1], fmt),
                token=after,
                token_before=before,
                margin=margins[1],
                margin_before=margins[0],
            )

        return restarted(ask)


def _difference(a: Array, b: Array, fmt: str) -> Difference:
    """On the lattice the numbers lie on: float32 carries those of narrower formats."""
    return compare_vectors(*(_narrow(value, fmt) for value in (a, b)))


def _narrow(value: Array, fmt: str) -> Array | Bf16:
    if fmt == "bfloat16":  # the upper half of a float32
        return Bf16((value.astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16).view(np.int16))
    return value.astype(fmt)
