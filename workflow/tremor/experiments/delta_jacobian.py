"""delta/jacobian: gain of every layer to the answer, finite differences, secants, and effective rank of its states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tremor.errors import ConfigError, NumericsError
from tremor.experiments.delta_layers import Model, document, layer_table
from tremor.experiments.delta_texts import texts as read_texts
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.neurons.gain import NOISES, SOURCES, LayerGraph, Source, Target, finite_differences
from tremor.neurons.resume import Resume
from tremor.probe.base import to_array, token_ids
from tremor.probe.spectrum import Spectrum
from tremor.progress import track
from tremor.statistics.effective_rank import effective_rank, participation_ratio
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.tables import write_csv

Float = npt.NDArray[np.float64]
# Derivatives run attention by another formula than the model's own; they must be of the same function. Roundings of a
# whole forward stay below some hundred epsilons of the logits' length, a lost mask changes them by their whole length.
ROUNDINGS = 2000.0


@dataclass
class Clean:
    """What the texts give unchanged."""

    last: dict[int, list[Float]] = field(default_factory=dict)  # layer -> [d_model] of each text
    tokens: dict[int, list[Float]] = field(default_factory=dict)  # layer -> [positions, d_model] of each text
    logits: list[Float] = field(default_factory=list)  # [vocab] at the last position of each text


def chosen_layers(layers: str | Sequence[int | str], count: int) -> list[int]:
    """Numbers of the blocks that `delta.jacobian.layers` asks for, ascending.

    Raises:
        ConfigError: the model has no such block.
    """
    if layers == "all":
        return list(range(count))
    numbers = sorted({count - 1 if layer == "last" else int(layer) for layer in layers})
    if numbers[-1] >= count:
        raise ConfigError(
            f"delta.jacobian.layers asks for block {numbers[-1]}, but the model has blocks 0 to {count - 1}; lower it"
        )
    return numbers


def measure(
    session: Session,
    *,
    settings: Mapping[str, Any],
    file: Path | None,
    data: Path,
    table: Path,
    ranks: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Measure the gain of every layer of one model.

    Args:
        session: The loaded model.
        settings: Config block ``delta.jacobian``.
        file: Where its `texts` names a file: that file.
        data: HDF5 file: every number of every text.
        table: CSV file, one row for each layer.
        ranks: CSV file, one row for each layer, set of states and kind of effective rank.
        statistics: JSON file to write.
        provenance: Config, code and input digests.

    Raises:
        ConfigError: a layer or a text that does not exist is asked for.
        ModelError: the model cannot be resumed behind a block.
        NumericsError: a number is NaN or infinite.
    """
    loaded = session.loaded
    texts = read_texts(settings["texts"], int(settings["num_texts"]), file)
    ids = [token_ids(loaded, text) for text in texts]
    layers = chosen_layers(settings["layers"], loaded.anatomy.n_layers)
    clean = clean_states(loaded, ids, layers)
    gains = layer_gains(session, ids[: int(settings["gain_texts"])], layers, clean, settings)
    noisy = _sensitivity(loaded, ids[: int(settings["sensitivity_texts"])], layers, settings)
    secants = _secants(clean, layers, int(settings["pairs"]))
    rank_table = _ranks(clean, layers, settings)
    model = Model(
        n_layers=loaded.anatomy.n_layers,
        mixers=tuple(parts.mixer_kind for parts in loaded.anatomy.block_parts),
        dtype=str(loaded.dtype).removeprefix("torch."),
    )
    rows = layer_table(model, layers, gains, noisy, secants, rank_table, clean.last, np.stack(clean.logits), settings)
    seeds = {"delta_jacobian": int(settings["seed"])}
    origin = session.provenance(seeds=seeds, **provenance)
    attributes = {
        "alias": session.manifest["alias"],
        "dtype": model.dtype,
        "attention": loaded.attention,
        "derivative_attention": "eager",
        "n_layers": loaded.anatomy.n_layers,
        "d_model": loaded.anatomy.d_model,
    }
    arrays = {"layer": np.array(layers, dtype=np.int64), "text": np.array(texts)}
    arrays |= {f"gain/{name}": value for name, value in gains.items()}
    arrays |= {f"sensitivity/{name}": value for name, value in noisy.items()}
    write_hdf5(data, arrays, attributes=attributes, provenance=origin)
    write_csv(table, rows, provenance=origin)
    write_csv(ranks, rank_table, provenance=origin)
    write_json(statistics, {**attributes, **document(rows, gains, secants, settings)}, provenance=origin)


def _ids(loaded: LoadedModel, ids: npt.NDArray[np.int64], rows: int) -> torch.Tensor:
    return torch.from_numpy(ids)[None].repeat(rows, 1).to(loaded.device)


def clean_states(loaded: LoadedModel, ids: Sequence[npt.NDArray[np.int64]], layers: Sequence[int]) -> Clean:
    """One forward of each text; the first is resumed behind every block and must give the same bits."""
    found = Clean({k: [] for k in layers}, {k: [] for k in layers}, [])
    for number, each in enumerate(ids):
        recorded = Resume(loaded.anatomy, _ids(loaded, each, 1))
        if number == 0:
            recorded.check()
        for k in layers:
            state = to_array(recorded.states[k][0]).astype(np.float64)
            found.last[k].append(state[-1])
            found.tokens[k].append(state)
        found.logits.append(to_array(recorded.logits[0, -1]).astype(np.float64))
    return found


def _norms(
    graph: LayerGraph, targets: Sequence[Target], settings: Mapping[str, Any], *, seed: int, max_memory: float
) -> dict[tuple[int, Target, Source], dict[str, float | bool]]:
    """Both norms of every layer, target and source, with their quality, by the method asked for."""
    tolerance = float(settings["tolerance"])
    found: dict[tuple[int, Target, Source], dict[str, float | bool]] = {}
    if settings["method"] == "dense":
        for key, (square, norm) in graph.dense(targets, max_memory=max_memory, tolerance=1e-10).items():
            found[key] = _quality(square, float(np.sqrt(square.singular_values[0])), norm, 0.0)
        return found
    for target in targets:
        norms = graph.frobenius(target, probes=int(settings["probes"]), seed=seed)
        for place, layer in enumerate(graph.layers):
            for source in SOURCES:
                solved = graph.spectral(
                    layer, target, source, tolerance=tolerance, max_iterations=settings["max_iterations"],
                    seed=int(settings["seed"]),
                )  # fmt: skip
                norm, error = float(norms[source].value[place]), float(norms[source].error[place])
                found[layer, target, source] = _quality(solved, float(solved.singular_values[0]), norm, error)
    return found


def _quality(solved: Spectrum, sigma: float, norm: float, error: float) -> dict[str, float | bool]:
    return {
        "spectral": sigma,
        "residual": float(solved.residuals[0]),
        "iterations": float(solved.iterations),
        "converged": solved.converged,
        "frobenius": norm,
        "frobenius_error": error,
    }


def layer_gains(
    session: Session,
    ids: Sequence[npt.NDArray[np.int64]],
    layers: Sequence[int],
    clean: Clean,
    settings: Mapping[str, Any],
) -> dict[str, npt.NDArray[Any]]:
    """Numbers of every layer and text [layers, texts], by name: see docs/delta.md."""
    targets: tuple[Target, ...] = tuple(settings["targets"])
    found: dict[str, npt.NDArray[Any]] = {}

    def keep(name: str, place: tuple[int, int], value: float | bool) -> None:
        kind = np.bool_ if isinstance(value, bool) else np.float64
        found.setdefault(name, np.zeros((len(layers), len(ids)), dtype=kind))[place] = value

    for text, each in enumerate(track(ids, "texts")):
        graph = LayerGraph(session.loaded, each, layers)
        _same_function(graph.answers["logits"], clean.logits[text], session.loaded)
        norms = _norms(graph, targets, settings, seed=int(settings["seed"]) + text, max_memory=session.max_memory)
        for (layer, target, source), numbers in norms.items():
            name, here = f"{source}_{target}", (list(layers).index(layer), text)
            state = graph.states[layer][-1:] if source == "last" else graph.states[layer]
            relative = float(np.linalg.norm(state) / np.linalg.norm(graph.answers[target]))
            sigma, typical = numbers["spectral"], numbers["frobenius"] / np.sqrt(state.size)
            derived = {
                "relative_worst": sigma * relative,
                "typical": typical,
                "relative_typical": typical * relative,
            }
            for what, value in {**numbers, **derived}.items():
                keep(f"{what}_{name}", here, value)
    return found


def _same_function(derived: Float, plain: Float, loaded: LoadedModel) -> None:
    """Refuse to differentiate another function than the one the model runs (D-D14: a mask that gets lost)."""
    far = float(np.linalg.norm(derived - plain) / np.linalg.norm(plain))
    if far > ROUNDINGS * torch.finfo(loaded.dtype).eps:
        raise NumericsError(
            f"the logits that are differentiated differ from the model's own by {far:.2g} of their length, more than "
            "rounding; this attention cannot be replaced by its plain formula: set models.<alias>.attention: eager"
        )


def _sensitivity(
    loaded: LoadedModel, ids: Sequence[npt.NDArray[np.int64]], layers: Sequence[int], settings: Mapping[str, Any]
) -> dict[str, Float]:
    """Finite differences [layers, texts, draws] of each kind of noise; see `finite_differences`."""
    draws = int(settings["draws"])
    shape = (len(layers), len(ids), draws)
    found = {f"{what}_{noise}": np.zeros(shape) for noise in NOISES for what in ("ratio", "relative", "relative_step")}
    for text, each in enumerate(ids):
        recorded = Resume(loaded.anatomy, _ids(loaded, each, draws))
        for place, layer in enumerate(layers):
            for noise in NOISES:
                told = finite_differences(
                    recorded, layer, noise, epsilon=settings["epsilon"], seed=int(settings["seed"]) + text
                )
                for what in ("ratio", "relative", "relative_step"):
                    found[f"{what}_{noise}"][place, text] = getattr(told, what)
    return found


def _secants(clean: Clean, layers: Sequence[int], most: int) -> dict[int, Float]:
    """Slopes between consecutive texts, at the last positions; a pair of equal states has none and is left out."""
    pairs = [(i, i + 1) for i in range(len(clean.logits) - 1)][:most]
    slopes: dict[int, Float] = {}
    for layer in layers:
        states = clean.last[layer]
        distance = np.array([np.linalg.norm(states[i] - states[j]) for i, j in pairs])
        moved = np.array([np.linalg.norm(clean.logits[i] - clean.logits[j]) for i, j in pairs])
        slopes[layer] = moved[distance > 0] / distance[distance > 0]
    return slopes


def _ranks(clean: Clean, layers: Sequence[int], settings: Mapping[str, Any]) -> pd.DataFrame:
    first = int(bool(settings["skip_first"]))
    rows = []
    for layer in layers:
        sets = {
            "last": np.stack(clean.last[layer]),
            "token": np.concatenate([states[min(first, len(states) - 1) :] for states in clean.tokens[layer]]),
        }
        for level, states in sets.items():
            if len(states) < 4:
                raise ConfigError(
                    f"delta.jacobian.num_texts gives {len(states)} states for an effective rank; raise it to 4 or more"
                )
            ratio = participation_ratio(states)
            for centred in (True, False):
                for power in (1, 2):
                    told = effective_rank(states, centred=centred, power=power, seed=int(settings["seed"]))
                    rows.append(
                        {
                            "layer": layer,
                            "level": level,
                            "centring": "centred" if centred else "uncentred",
                            "spectrum": "sigma" if power == 1 else "sigma2",
                            "effective_rank": told.value,
                            "corrected": told.corrected,
                            "gaussian": told.gaussian,
                            "limit": told.limit,
                            "saturation": told.saturation,
                            "participation_ratio": ratio,
                            "samples": told.samples,
                            "width": told.width,
                        }
                    )
    return pd.DataFrame(rows)
