"""What a measurement at a prompt gives: arrays with their meaning, tables, the workflow's figures. No torch here."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.compare.bits import Difference
from tremor.experiments.boundary_results import COLUMNS
from tremor.store.arrays import Bf16

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]


class Result:
    """A short text instead of thousands of numbers."""

    def __repr__(self) -> str:
        parts = [f"{entry.name}={_short(getattr(self, entry.name))}" for entry in fields(self) if entry.repr]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(parts)})"


def _short(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]" if value.size > 4 else str(value.tolist())
    if isinstance(value, Bf16):
        return f"bfloat16[{', '.join(map(str, value.shape))}]"
    if isinstance(value, pd.DataFrame):
        return f"table[{', '.join(map(str, value.shape))}]"
    if isinstance(value, Mapping):
        return f"{{{len(value)}: {', '.join(map(str, list(value)[:3]))}{', ...' if len(value) > 3 else ''}}}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class Picture:
    """A figure of the workflow, which a notebook shows.

    Attributes:
        figure: As matplotlib has it, to draw on.
    """

    figure: "Figure"

    def save(self, *paths: Path | str, dpi: float = 150) -> None:
        """Write it as the workflow does, byte for byte the same for the same data (.png, .pdf or .svg)."""
        from tremor.figures.save import save

        save(self.figure, paths, dpi=dpi)

    def _repr_png_(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "figure.png"
            self.save(path)
            return path.read_bytes()


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum(Result):
    """Singular values and vectors of d(final state) / d(last input embedding): J v_k = sigma_k u_k.

    Attributes:
        singular_values: [k] float64, largest first; hidden units for each embedding unit.
        left: [d_out, k] float32, columns u_k.
        right: [k, d_in] float32, rows v_k: the input directions, as all that nudges along them uses them.
        residuals: [k] float64, max of ||J v - sigma u|| and ||J^T u - sigma v||, relative to sigma_1.
        jacobian: [d_out, d_in] in the model's carrier type; None by Lanczos.
        frobenius: Norm of the whole Jacobian; None by Lanczos.
        orthogonality: Largest entry of |V V^T - I|.
        iterations: Of Lanczos, 0 for the dense method.
        converged: Whether all residuals are within the tolerance.
        method: "dense" or "lanczos".
        title: Of the figure.
    """

    singular_values: Float
    left: npt.NDArray[np.float32]
    right: npt.NDArray[np.float32]
    residuals: Float
    jacobian: Array | None
    frobenius: float | None
    orthogonality: float
    iterations: int
    converged: bool
    method: str
    title: str = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """One row for each singular value: rank (from 1), singular_value, residual."""
        rank = np.arange(1, len(self.singular_values) + 1)
        return pd.DataFrame({"rank": rank, "singular_value": self.singular_values, "residual": self.residuals})

    def plot(self) -> Picture:
        """Singular values over their rank."""
        from tremor.figures.spectrum import spectrum

        return Picture(spectrum(self.singular_values, frobenius=self.frobenius, title=self.title))


@dataclass(frozen=True, eq=False, repr=False)
class Boundary(Result):
    """How far along each of n rays nothing changes; see docs/exp12.md.

    Attributes:
        direction: [n, d_in] float32, added times the step.
        max_s: [n] float32, embedding units for each unit of the direction: for every float32 step up to it the final
            state keeps its bits.
        min_t: [n] float32, the next float32, at which it changes; NaN where `censored`.
        first_breakpoint: [n] float32, smallest step at which the input moves at all; NaN for none up to s_max.
        moved_coordinates: [n] int64, of the input at min_t.
        realised_l2: [n] float64, how far the input really went there.
        evaluations: [n] int64, distinct inputs looked at.
        certified: [n] bool, whether every distinct input up to min_t was run.
        censored: [n] bool, whether nothing changed up to s_max.
        changed_embedding: [n, d_in], the input at min_t.
        changed_hidden: [n, d_out], the final state there.
        model_rows: Rows the model ran.
        title: Of the figure.
    """

    direction: npt.NDArray[np.float32]
    max_s: npt.NDArray[np.float32]
    min_t: npt.NDArray[np.float32]
    first_breakpoint: npt.NDArray[np.float32]
    moved_coordinates: npt.NDArray[np.int64]
    realised_l2: Float
    evaluations: npt.NDArray[np.int64]
    certified: npt.NDArray[np.bool_]
    censored: npt.NDArray[np.bool_]
    changed_embedding: Array
    changed_hidden: Array
    model_rows: int
    title: str = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """One row for each ray, the columns of boundary.csv."""
        return pd.DataFrame({name: getattr(self, name) for name in COLUMNS})


@dataclass(frozen=True, eq=False, repr=False)
class PlaneBoundary(Boundary):
    """The boundary around a prompt in the plane of two directions.

    Attributes:
        theta: [n] float64 radians, from the first direction towards the second.
    """

    theta: Float

    def to_frame(self) -> pd.DataFrame:
        """One row for each angle, the columns of boundary.csv."""
        return pd.DataFrame({name: getattr(self, name) for name in ("theta", *COLUMNS)})

    def plot(self, kind: Literal["polar", "cartesian", "radar", "plane"] = "polar") -> Picture:
        """One of the figures of exp12."""
        from tremor.figures import boundary

        draw = {name: getattr(boundary, name) for name in ("polar", "cartesian", "radar", "plane")}
        data = {name: getattr(self, name) for name in ("theta", "max_s", "first_breakpoint", "censored", "certified")}
        return Picture(draw[kind](data, title=self.title))


@dataclass(frozen=True, eq=False, repr=False)
class Step(Result):
    """What one nudge changed.

    Attributes:
        s: The step, embedding units for each unit of the direction.
        embedding: [d_in], the input the model was given.
        hidden: [d_out], its final state.
        input: How the input differs from the prompt's.
        output: How the final state differs from the prompt's.
        token: Text of the chosen next token.
        token_before: The same without the nudge.
        margin: Largest logit less the next, after the nudge.
        margin_before: Without it.
    """

    s: float
    embedding: Array
    hidden: Array
    input: Difference
    output: Difference
    token: str
    token_before: str
    margin: float
    margin_before: float

    def to_frame(self) -> pd.DataFrame:
        """Two rows, input and output, with the numbers of their differences."""
        return pd.DataFrame([asdict(self.input), asdict(self.output)], index=["input", "output"])
