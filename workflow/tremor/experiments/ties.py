"""exp6: an input at which the two leading tokens are tied, and which steps from there flip the token."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.errors import ConfigError, NumericsError
from tremor.experiments.ancestors import require_ancestor
from tremor.experiments.session import Session
from tremor.floats import Arithmetic, bits
from tremor.probe.base import BasePoint, base_point, moved_to
from tremor.probe.boundary import Boundaries
from tremor.probe.flips import FlipSweep, nearest_flips, sweep_flips, symmetric_steps
from tremor.probe.readout import Readout
from tremor.probe.response import Response
from tremor.probe.tie import TieMethod, find_tie
from tremor.statistics.flips import nearest_on_grid, token_intervals
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Artifact, read_hdf5, write_hdf5
from tremor.store.tables import write_csv, write_parquet

Array = npt.NDArray[Any]
FLIPS_SCHEMA = 1


def measure_tie(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    method: TieMethod,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    data: Path,
    history: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """exp6 part 1: find the tie and write it with the whole search.

    Args:
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        method: ``geometric`` or ``probability``.
        probe: Config block ``probe``.
        settings: Config block ``exp6``.
        data: HDF5 file to write.
        history: CSV file to write, one row for each evaluation.
        statistics: JSON file to write.
        provenance: Config, code and input digests.
    """
    base = base_point(session.loaded, prompt["text"], bos=prompt["bos"])
    response = Response(
        session.loaded,
        base,
        mode=probe["mode"],
        batch_size=probe["batch_size"],
        max_memory=session.max_memory,
        repeats=probe["aa_repeats"],
    )
    readout = Readout(response, max_memory=session.max_memory)
    found = find_tie(readout, method=method, max_evaluations=int(settings["max_evaluations"]))
    state = readout.decide(found.x[None]).final[0]
    attributes = {
        "method": method,
        "first_token": found.first,
        "second_token": found.second,
        "first_text": token_text(session, found.first),
        "second_text": token_text(session, found.second),
        "mode": response.mode,
        "batch_size": response.batch_size,
        "logit_rows": readout.rows,
        "dtype": base.fmt,
        "prompt": base.text,
    }
    rows = pd.DataFrame(
        {
            "evaluation": np.arange(len(found.trials)),
            "stage": [t.stage for t in found.trials],
            "second_token": [t.second for t in found.trials],
            "gap": [t.gap for t in found.trials],
            "distance_l2": [_distance(t.x, base.x) for t in found.trials],
            "is_top_2": [t.holds for t in found.trials],
        }
    )
    origin = session.provenance(**provenance)
    datasets = {
        "ids": base.ids,
        "x0": base.x,
        "h0": response.h0,
        "tie": found.x,
        "h_tie": state,
        "history_gap": rows["gap"].to_numpy(),
        "history_distance_l2": rows["distance_l2"].to_numpy(),
    }
    write_hdf5(data, datasets, attributes=attributes, provenance=origin)
    write_csv(history, rows, provenance=origin)
    summary = {
        **attributes,
        "start_gap": found.trials[0].gap,
        **{f"gap_{name}": value for name, value in asdict(found.gaps).items() if name != "logit_ulp"},
        "logit_ulp": found.gaps.logit_ulp,
        "distance_l2": found.distance,
        "distance_over_x_l2": found.distance / float(np.linalg.norm(base.x.astype(np.float64))),
        "evaluations": found.evaluations,
        "forwards": len(found.trials),
        "gradients": found.gradients,
        "reselections": found.reselections,
        "is_top_2": found.holds,
        "closed": found.closed,
        "bracket_l2": found.bracket_l2,
        "device": session.fingerprint["applied"]["device"],
    }
    write_json(statistics, summary, provenance=origin)


def _distance(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a.astype(np.float64) - b.astype(np.float64)))


def token_text(session: Session, token: int) -> str:
    """A token as text, for people; ids are what is compared."""
    return str(session.loaded.tokenizer.decode([token]))


@dataclass(frozen=True)
class OpenTie:
    """A stored tie taken up again: the model reproduces its answer bit for bit."""

    base: BasePoint  # at the tie
    readout: Readout
    artifact: Hdf5Artifact

    @property
    def pair(self) -> tuple[int, int]:
        """The tied tokens."""
        return int(self.artifact.attributes["first_token"]), int(self.artifact.attributes["second_token"])


def tie_base(session: Session, prompt: Mapping[str, Any], tie: Path, **expected: Any) -> tuple[BasePoint, Hdf5Artifact]:
    """The base point at a stored tie.

    Raises:
        ArtifactError: the tie was made under other conditions.
    """
    base = base_point(session.loaded, prompt["text"], bos=prompt["bos"])
    artifact = read_hdf5(tie)
    require_ancestor(artifact, tie, session, base, rule="exp6_tie", dtype=base.fmt, **expected)
    return moved_to(base, artifact.array("tie")), artifact


def open_tie(session: Session, prompt: Mapping[str, Any], tie: Path, probe: Mapping[str, Any]) -> OpenTie:
    """Take a stored tie up again, in its own mode and batch shape.

    Raises:
        ArtifactError: the tie was made under other conditions.
        NumericsError: the model answers other bits at the tie than when it was found.
    """
    base, artifact = tie_base(session, prompt, tie, mode=probe["mode"])
    response = Response(
        session.loaded,
        base,
        mode=probe["mode"],
        batch_size=int(artifact.attributes["batch_size"]),  # the shape is part of the function that was measured
        max_memory=float("inf"),
        repeats=probe["aa_repeats"],
    )
    if not np.array_equal(
        bits(response.h0, response.output_format), bits(artifact.array("h_tie"), response.output_format)
    ):
        raise NumericsError(
            f"the model answers the tie of {tie} with other bits than when it was found: the platform is not the same, "
            "or not deterministic; run `tremor doctor`, then make the tie again"
        )
    return OpenTie(base, Readout(response, max_memory=session.max_memory), artifact)


def tie_directions(session: Session, opened: OpenTie, spectrum: Path, ranks: int) -> tuple[Array, Array, Hdf5Artifact]:
    """Leading right singular vectors [ranks, d_in] at a tie, their singular values, and the spectrum.

    Raises:
        ArtifactError: the spectrum is not that of the tie.
        ConfigError: it holds fewer vectors.
    """
    source = read_hdf5(spectrum)
    require_ancestor(source, spectrum, session, opened.base, rule="exp6_spectrum")
    right = source.array("right")
    if ranks > len(right):
        raise ConfigError(f"singular vector {ranks} is asked for, but the spectrum has {len(right)}; lower it")
    return right[:ranks], source.array("singular_values")[:ranks], source


def measure_flips(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    arithmetic: Arithmetic,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    tie: Path,
    spectrum: Path,
    tie_statistics: Mapping[str, Any],
    table: Path,
    intervals: Path,
    nearest: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """exp6 part 2: the token at every step along leading directions from the tie, and its nearest flips.

    Args:
        session: The loaded model, on the platform of the tie.
        prompt: ``text`` and ``bos``.
        arithmetic: How the nudge is added.
        probe: Config block ``probe``.
        settings: Config block ``exp6``.
        tie: The tie artifact.
        spectrum: The spectrum at the tie.
        tie_statistics: The tie's statistics, handed on to the summary.
        table: Parquet file to write: one row for each direction and step.
        intervals: CSV file to write: runs of equal token.
        nearest: CSV file to write: the nearest flip on each side of each direction.
        statistics: JSON file to write.
        provenance: Config, code and input digests.
    """
    opened = open_tie(session, prompt, tie, probe)
    directions, sigma, _ = tie_directions(session, opened, spectrum, int(settings["directions"]))
    steps = symmetric_steps(float(settings["epsilon"]), int(settings["steps"]))
    sweep = sweep_flips(opened.readout, directions, steps, opened.pair, arithmetic=arithmetic)
    reference, found = nearest_flips(
        opened.readout,
        directions,
        opened.pair,
        s_max=float(settings["epsilon"]),
        arithmetic=arithmetic,
        max_evaluations=int(settings["max_distinct_inputs"]),
        tried=(steps, sweep.token),
    )
    _require_agreement(steps, sweep, found, reference, table)
    origin = session.provenance(**provenance)
    write_parquet(table, _grid(session, steps, sweep), provenance=origin, schema_version=FLIPS_SCHEMA)
    runs = _runs(session, steps, sweep)
    write_csv(intervals, runs, provenance=origin)
    flips = _nearest(session, sigma, found, opened.pair)
    write_csv(nearest, flips, provenance=origin)
    ties = sweep.leaders > 1
    certified = found.certified
    known = flips.loc[~flips["censored"], "step"].abs()
    summary = {
        "tie": dict(tie_statistics),
        "reference_token": reference,
        "reference_text": token_text(session, reference),
        "directions": len(directions),
        "steps": len(steps),
        "epsilon": float(settings["epsilon"]),
        "sigma_1": float(sigma[0]),
        "grid_flips": int(len(runs) - len(directions)),
        "grid_flips_by_direction": [int(n) - 1 for n in runs.groupby("direction").size()],
        "grid_changed_fraction": float(np.mean(sweep.token != reference)),
        "grid_tied_fraction": float(np.mean(ties)),
        "grid_outside_pair_fraction": float(np.mean(~np.isin(sweep.token, opened.pair))),
        "grid_distinct_inputs": int(sum(row.max() + 1 for row in sweep.distinct_input)),
        "nearest_flip_abs": float(known.min()) if len(known) else None,
        "rays": len(certified),
        "certified_rays": int(certified.sum()),
        "censored_rays": int(found.censored.sum()),
        "model_rows": found.model_rows,
        "mode": opened.readout.response.mode,
        "dtype": opened.base.fmt,
        "arithmetic": arithmetic,
        "device": session.fingerprint["applied"]["device"],
    }
    write_json(statistics, summary, provenance=origin)


def _require_agreement(steps: Array, sweep: FlipSweep, found: Boundaries, reference: int, path: Path) -> None:
    """No step of the grid that lies within a stable interval may show another token."""
    count = len(sweep.token)
    for direction, token in enumerate(sweep.token):
        above, below = nearest_on_grid(steps, token, reference)
        for ray, step in ((direction, above), (direction + count, below)):
            if step is not None and abs(step) <= float(found.max_s[ray]):
                raise NumericsError(
                    f"{path}: the token flips at {step:.9g} along direction {direction + 1}, where it had been found "
                    "stable: the platform is not deterministic; run `tremor doctor`"
                )


def _grid(session: Session, steps: Array, sweep: FlipSweep) -> pd.DataFrame:
    count, n = sweep.token.shape
    names = {int(token): token_text(session, int(token)) for token in np.unique(sweep.token)}
    return pd.DataFrame(
        {
            "direction": np.repeat(np.arange(1, count + 1), n),
            "epsilon": np.tile(steps, count),
            **{name: getattr(sweep, name).ravel() for name in FlipSweep.__dataclass_fields__},
            "token_text": [names[int(token)] for token in sweep.token.ravel()],
        }
    )


def _runs(session: Session, steps: Array, sweep: FlipSweep) -> pd.DataFrame:
    parts = []
    for direction, token in enumerate(sweep.token, start=1):
        runs = token_intervals(steps, token)
        parts.append(
            pd.DataFrame(
                {
                    "direction": direction,
                    "token": runs.token,
                    "token_text": [token_text(session, int(t)) for t in runs.token],
                    "first_epsilon": runs.start,
                    "last_epsilon": runs.end,
                    "steps": runs.steps,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _nearest(session: Session, sigma: Array, found: Boundaries, pair: tuple[int, int]) -> pd.DataFrame:
    count = len(sigma)
    sign = np.repeat([1, -1], count)
    answer = found.changed_hidden
    step = np.where(found.censored, np.nan, sign * found.min_t.astype(np.float64))
    return pd.DataFrame(
        {
            "direction": np.tile(np.arange(1, count + 1), 2),
            "sign": sign,
            "sigma": np.tile(sigma, 2),
            "step": step,
            "last_unflipped": sign * found.max_s.astype(np.float64),
            "token": answer[:, 0].astype(np.int64),
            "token_text": [token_text(session, int(t)) for t in answer[:, 0]],
            "gap": answer[:, 1] - answer[:, 2],
            "moved_coordinates": found.moved_coordinates,
            "realised_l2": found.realised_l2,
            "evaluations": found.evaluations,
            "certified": found.certified,
            "censored": found.censored,
        }
    )
