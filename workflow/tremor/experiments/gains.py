"""Gains at one prompt: its spectrum, its difference quotients and their noisy averages, as tables.

Shared by exp2 and by the Lipschitz studies, which differ in prompts, directions, steps and precision only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.experiments import nudges
from tremor.experiments.prompt_set import SetPrompt
from tremor.experiments.session import Session
from tremor.models import true64, true64_gate
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, base_point, dtype_name
from tremor.probe.jacobian import JacobianOperator, jacobian
from tremor.probe.noise import NoiseFloor, noise_floor
from tremor.probe.quotient import Observations, Product, averages, quotients
from tremor.probe.readout import Readout
from tremor.probe.response import Response
from tremor.probe.routing import Routing
from tremor.probe.spectrum import Spectrum, dense_spectrum, lanczos_spectrum
from tremor.statistics.quotient import noisy_gain

Array = npt.NDArray[Any]
TRUE = "true_float64"


def in_precision(
    session: Session, precision: str, prompt: str, *, bos: Any
) -> tuple[LoadedModel, dict[str, Any] | None]:
    """The session's model, or for ``true_float64`` its copy in true float64 with the verdict of the gate.

    Args:
        session: Opened in float64 for ``true_float64``, in the precision itself otherwise.
        precision: ``bfloat16``, ``float16``, ``float32`` or ``true_float64``.
        prompt: Where the gate is asked.
        bos: Policy for the begin-of-text token.

    Raises:
        NumericsError: the model may not be called float64.
    """
    if precision != TRUE:
        return session.loaded, None
    wide = true64.convert(session.loaded)
    return wide, asdict(true64_gate.require(wide, base_point(wide, prompt, bos=bos)))


@dataclass(frozen=True)
class Place:
    """One prompt with its spectrum."""

    prompt: SetPrompt
    base: BasePoint
    spectrum: Spectrum
    matrix: npt.NDArray[np.float64] | None  # the Jacobian, where it is known whole
    product: Product

    @property
    def directions(self) -> Array:
        """[k, d] right singular vectors as they are added: float64 for a float64 model, rounded to float32 else."""
        return self.spectrum.right if self.base.fmt == "float64" else self.spectrum.right.astype(np.float32)


def place(loaded: LoadedModel, prompt: SetPrompt, settings: Mapping[str, Any], *, bos: Any, max_memory: float) -> Place:
    """The spectrum at a prompt, by the method of the config block ``spectrum``."""
    base = base_point(loaded, prompt.text, bos=bos)
    if settings["method"] == "dense":
        matrix = jacobian(loaded, base, method=settings["jacobian"], max_memory=max_memory).astype(np.float64)
        found = dense_spectrum(matrix, device=loaded.device)
        return Place(prompt, base, found, matrix, lambda steps: steps @ matrix.T)
    operator = JacobianOperator(loaded, base)
    found = lanczos_spectrum(
        operator,
        top_k=settings["top_k"],
        tolerance=settings["tolerance"],
        max_iterations=settings["max_iterations"],
        seed=settings["seed"],
    )
    return Place(
        prompt, base, found, None, lambda steps: np.array([operator.matvec(s) for s in steps]).reshape(len(steps), -1)
    )


def ranks(top_k: int, named: Sequence[int | str], count: int) -> list[tuple[str, int]]:
    """Directions to go along: kind of row and rank from 1; ranks beyond the spectrum are left out, none comes twice.

    Args:
        top_k: The leading ones, kind ``top_k_singular``.
        named: More ranks, ``last`` for the smallest known, kind ``specific_dimension``.
        count: Singular vectors there are.
    """
    wanted = [("top_k_singular", k) for k in range(1, top_k + 1)]
    wanted += [("specific_dimension", count if k == "last" else int(k)) for k in named]
    kept: dict[int, str] = {}
    for kind, rank in wanted:
        if 1 <= rank <= count:
            kept.setdefault(rank, kind)
    return [(kind, rank) for rank, kind in kept.items()]


@dataclass(frozen=True)
class Instruments:
    """What measures at one place."""

    response: Response
    readout: Readout
    floor: NoiseFloor


def instruments(
    loaded: LoadedModel, there: Place, *, probe: Mapping[str, Any], max_memory: float, samples: int, seed: int
) -> Instruments:
    """A response with its controls passed, its readout, and the noise floor."""
    response = nudges.respond(loaded, there.base, ("final",), probe=probe, max_memory=max_memory)
    floor = noise_floor(response, there.product, samples=samples, seed=seed)
    return Instruments(response, Readout(response, max_memory=max_memory), floor)


def spectrum_row(there: Place, top_k: int, floor: NoiseFloor | None, h0: Array) -> dict[str, Any]:
    """One row of prompts.csv."""
    values, x, h = there.spectrum.singular_values, there.base.x.astype(np.float64), h0.astype(np.float64)
    frobenius = float(np.linalg.norm(there.matrix)) if there.matrix is not None else np.nan
    top = {f"sigma_{k}": float(values[k - 1]) if k <= len(values) else np.nan for k in range(1, top_k + 1)}
    return {
        **asdict(there.prompt),
        "tokens": len(there.base.ids),
        **top,
        "sigma_last": float(values[-1]),
        "values": len(values),
        "frobenius_norm": frobenius,
        "stable_rank": (frobenius / values[0]) ** 2,
        "embedding_l2": float(np.linalg.norm(x)),
        "hidden_l2": float(np.linalg.norm(h)),
        "relative_gain": float(values[0] * np.linalg.norm(x) / np.linalg.norm(h)),
        "noise_floor_l2": floor.median_l2 if floor else np.nan,
        "noise_floor_low_l2": floor.low_l2 if floor else np.nan,
        "noise_floor_high_l2": floor.high_l2 if floor else np.nan,
        "max_residual": float(there.spectrum.residuals.max()),
        "converged": there.spectrum.converged,
    }


def _tokens(found: Observations, decode: Callable[[int], str]) -> dict[str, Any]:
    return {
        "orig_token_id": found.base_token,
        "orig_token": decode(found.base_token),
        "orig_prob": found.base_probability,
        "orig_logit": found.base_logit,
        "pert_token_id": found.token,
        "pert_token": [decode(int(token)) for token in found.token],
        "pert_prob": found.probability,
        "pert_logit": found.logit,
        "token_changed": found.token != found.base_token,
    }


def dtype_of(loaded: LoadedModel) -> str:
    """Name of the type a model runs in."""
    return dtype_name(loaded.dtype)


def decoder(loaded: LoadedModel) -> Callable[[int], str]:
    """Text of one token, never empty: a token without text is shown by its number."""
    return lambda token: str(loaded.tokenizer.decode([token])) or f"<{token}>"


def quotient_table(
    loaded: LoadedModel,
    there: Place,
    tools: Instruments,
    chosen: Sequence[tuple[str, int]],
    powers: Sequence[int],
    *,
    arithmetic: Any,
    routing: Routing | None = None,
) -> tuple[pd.DataFrame, int, Array | None]:
    """Difference quotients at one place, one row for each direction and step.

    Returns:
        The table, the number of distinct inputs run, and router flips [rows, layers] (None without routing).
    """
    index = [rank - 1 for _, rank in chosen]
    epsilons = [float(f"1e{power}") for power in powers]  # the nearest double to each power, as Python writes it
    found = quotients(
        tools.response,
        tools.readout,
        there.directions[index],
        epsilons,
        there.product,
        arithmetic=arithmetic,
        routing=routing,
    )
    seen = found.observed
    steps = len(epsilons)
    sigma = there.spectrum.singular_values[index]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(sigma[:, None] > 0, found.nominal / sigma[:, None], np.nan)
        ratio_realised = np.where(sigma[:, None] > 0, found.realised / sigma[:, None], np.nan)
    table = pd.DataFrame(
        {
            "prompt": there.prompt.name,
            "analysis_type": np.repeat([kind for kind, _ in chosen], steps),
            "dimension": np.repeat([rank for _, rank in chosen], steps),
            "singular_value": np.repeat(sigma, steps),
            "epsilon_power": np.tile(np.array(powers, dtype=np.int64), len(chosen)),
            "epsilon": found.epsilon.ravel(),
            "moved_coordinates": found.moved_coordinates.ravel(),
            "realised_l2": found.realised_l2.ravel(),
            "realised_along": found.realised_along.ravel(),
            "off_direction_l2": found.off_direction_l2.ravel(),
            "output_changed": seen.output_changed,
            "output_diff_norm": seen.output_l2,
            "smooth_prediction_l2": found.smooth_l2.ravel(),
            "noise_floor_l2": tools.floor.median_l2,
            "quotient_nominal": found.nominal.ravel(),
            "quotient_realised": found.realised.ravel(),
            "ratio_nominal_to_sigma": ratio.ravel(),
            "ratio_realised_to_sigma": ratio_realised.ravel(),
            "logit_diff": seen.logit_l2,
            **_tokens(seen, decoder(loaded)),
        }
    )
    if seen.flips is not None:
        table["router_flips"] = seen.flips.sum(axis=1)
        table["router_layers_flipped"] = (seen.flips > 0).sum(axis=1)
    return table, seen.evaluated, seen.flips


@dataclass(frozen=True)
class Noise:
    """How noisy averages are drawn."""

    isotropic: float  # half width of the uniform noise of each coordinate, over the step; 0 leaves it out
    along: float  # half width of the uniform noise along the direction, embedding units; 0 leaves it out
    samples: Sequence[int]
    seed: int


def average_table(
    loaded: LoadedModel,
    there: Place,
    tools: Instruments,
    chosen: Sequence[tuple[str, int]],
    powers: Sequence[int],
    noise: Noise,
) -> pd.DataFrame:
    """Noise-averaged quotients, one row for each kind of noise, direction, step and number of copies.

    ``isotropic``: r uniform in +-(amplitude * step) in each coordinate (version 1 of the original); its copies serve
    all directions of a step. ``along``: r = t * v, t uniform in +-amplitude (version 2); its copies serve all steps
    of a direction.
    """
    vectors = there.directions[[rank - 1 for _, rank in chosen]].astype(np.float64)
    sizes = [float(f"1e{power}") for power in powers]
    zero = np.zeros_like(there.base.x, dtype=np.float64)
    groups: list[tuple[str, list[tuple[int, int]], Any]] = []
    if noise.isotropic:
        for e, size in enumerate(sizes):
            half = noise.isotropic * size
            cells = [(k, e) for k in range(len(chosen))]
            groups.append(("isotropic", cells, lambda g, n, half=half: g.uniform(-half, half, (n, len(zero)))))
    if noise.along:
        for k, v in enumerate(vectors):
            half = noise.along
            cells = [(k, e) for e in range(len(sizes))]
            groups.append(("along", cells, lambda g, n, half=half, v=v: g.uniform(-half, half, (n, 1)) * v))
    rows = []
    for name, cells, draw in groups:
        shifts = np.array([zero, *(sizes[e] * vectors[k] for k, e in cells)])
        found = averages(tools.response, tools.readout, shifts, draw, noise.samples, seed=noise.seed)
        for number, (k, e) in enumerate(cells, start=1):
            kind, rank = chosen[k]
            gain = float(np.linalg.norm(there.product(vectors[k][None])[0]))
            for s, n in enumerate(found.samples):
                change = float(np.linalg.norm(found.hidden[number, s] - found.hidden[0, s]))
                before, after = found.logits[0, s], found.logits[number, s]
                rows.append(
                    {
                        "prompt": there.prompt.name,
                        "analysis_type": f"{kind}_with_noise",
                        "noise": name,
                        "noise_half_width": noise.isotropic * sizes[e] if name == "isotropic" else noise.along,
                        "dimension": rank,
                        "singular_value": float(there.spectrum.singular_values[rank - 1]),
                        "epsilon_power": int(powers[e]),
                        "epsilon": sizes[e],
                        "n_samples": n,
                        "distinct_inputs_of_group": found.evaluated,
                        "output_diff_norm": change,
                        "quotient_nominal": change / sizes[e],
                        "smooth_gain": gain,
                        "bias": change / sizes[e] - gain,
                        "noise_gain": tools.floor.median_l2 / (sizes[e] * n**0.5),
                        "expected_quotient": noisy_gain(gain, tools.floor.median_l2, sizes[e], n),
                        "logit_diff": float(np.linalg.norm(after - before)),
                        **_averaged_tokens(before, after, decoder(loaded)),
                    }
                )
    return pd.DataFrame(rows)


def _averaged_tokens(before: Array, after: Array, decode: Callable[[int], str]) -> dict[str, Any]:
    """The token columns, read off averaged logits as the original does."""
    columns: dict[str, Any] = {}
    for name, logits in (("orig", before), ("pert", after)):
        token = int(np.argmax(logits))
        top = float(logits[token])
        columns |= {
            f"{name}_token_id": token,
            f"{name}_token": decode(token),
            f"{name}_prob": float(1.0 / np.exp(logits - top).sum()),
            f"{name}_logit": top,
        }
    return {**columns, "token_changed": columns["orig_token_id"] != columns["pert_token_id"]}
