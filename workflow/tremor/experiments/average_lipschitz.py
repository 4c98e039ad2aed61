"""exp2: sigma_1 over a set of prompts, and what difference quotients and their noisy averages make of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.errors import ConfigError
from tremor.experiments import gains
from tremor.experiments.gain_results import write_gains
from tremor.experiments.prompt_set import read_prompts, select
from tremor.experiments.session import Session
from tremor.probe.base import to_array
from tremor.progress import track
from tremor.shards import WHOLE, Shard
from tremor.store.shards import Part, stacked


def measure(
    session: Session,
    *,
    precision: str,
    prompts: Path,
    probe: Mapping[str, Any],
    spectrum: Mapping[str, Any],
    settings: Mapping[str, Any],
    data: Path,
    table: Path,
    quotients: Path,
    averages: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Measure exp2 on one model in one precision: all prompts, one load.

    Args:
        session: The loaded model, in float64 for ``true_float64``.
        precision: ``bfloat16``, ``float32`` or ``true_float64``.
        prompts: The prompt set.
        probe: Config block ``probe``.
        spectrum: Config block ``spectrum``.
        settings: Config block ``exp2``.
        data: HDF5 file: for each prompt ids, x0, h0, singular values and the leading right singular vectors.
        table: CSV file, one row for each prompt.
        quotients: CSV file, one row for each prompt, direction and step.
        averages: CSV file, one row for each kind of noise, direction, step and number of copies.
        statistics: JSON file to write.
        provenance: Config, code and input digests.
    """
    whole = part(session, precision=precision, prompts=prompts, probe=probe, spectrum=spectrum, settings=settings)
    origin = session.provenance(seeds=whole.seeds, **provenance)
    write_gains(
        whole,
        data=data,
        table=table,
        quotients=quotients,
        averages=averages,
        statistics=statistics,
        provenance=origin,
    )


def part(
    session: Session,
    *,
    precision: str,
    prompts: Path,
    probe: Mapping[str, Any],
    spectrum: Mapping[str, Any],
    settings: Mapping[str, Any],
    shard: Shard = WHOLE,
) -> Part:
    """What exp2 finds on a shard's share of the prompts, all of them by default; else as :func:`measure`."""
    chosen = read_prompts(prompts, settings["names"])
    noisy = {prompt.name for prompt in select(chosen, settings["noise_prompts"], where="exp2.names")}
    nudged = {prompt.name for prompt in select(chosen, settings["quotient_prompts"], where="exp2.names")}
    bos, top_k, seed = settings["bos"], int(settings["top_k"]), int(settings["noise_seed"])
    # The gate is asked at the first prompt of all, so that every shard has the same verdict.
    loaded, gate = gains.in_precision(session, precision, chosen[0].text, bos=bos)
    arithmetic = "float64" if precision == gains.TRUE else settings["arithmetic"]
    noise = gains.Noise(settings["noise_isotropic"], settings["noise_along"], settings["noise_samples"], seed)
    shares = shard.rows(len(chosen), key="shards.exp2")
    own: dict[str, Any] = {}
    rows, nudges, means = [], [], []
    evaluated, sizes = np.zeros(len(shares), dtype=np.int64), np.zeros(len(shares), dtype=np.int64)
    for place, number in enumerate(track(shares, "prompts")):
        prompt = chosen[number]
        there = gains.place(loaded, prompt, spectrum, bos=bos, max_memory=session.max_memory)
        tools = gains.instruments(
            loaded, there, probe=probe, max_memory=session.max_memory, samples=settings["floor_samples"], seed=seed
        )
        count = len(there.spectrum.singular_values)
        rows.append(gains.spectrum_row(there, top_k, tools.floor, tools.response.h0))
        sizes[place] = tools.response.batch_size
        if prompt.name in nudged:
            along = gains.ranks(top_k, settings["ranks"], count)
            found, evaluated[place], _ = gains.quotient_table(
                loaded, there, tools, along, settings["powers"], arithmetic=arithmetic
            )
            nudges.append(found)
        if prompt.name in noisy:
            along = gains.ranks(0, settings["noise_ranks"], count)
            if not along:
                raise ConfigError(
                    f"exp2.noise_ranks names no direction that {prompt.name!r} has: there are {count} singular vectors "
                    "known; name a rank among them, or last"
                )
            along = [("top_k_singular" if rank <= top_k else kind, rank) for kind, rank in along]
            means.append(gains.average_table(loaded, there, tools, along, settings["noise_powers"], noise))
        own |= {
            f"{prompt.name}/ids": there.base.ids,
            f"{prompt.name}/x0": to_array(there.base.embeddings[-1]),
            f"{prompt.name}/h0": tools.response.h0,
            f"{prompt.name}/singular_values": there.spectrum.singular_values,
            f"{prompt.name}/right": there.directions[:top_k],
        }
    facts = {
        "precision": precision,
        "dtype": gains.dtype_of(loaded),
        "arithmetic": arithmetic,
        "spectrum_method": spectrum["method"],
        "mode": probe["mode"],
        "gate": gate or {"relative_error": None},
    }
    tables = {"prompts": pd.DataFrame(rows), "quotients": stacked(nudges), "averages": stacked(means)}
    items = {"evaluated": evaluated, "batch_size": sizes}
    return Part(shares, len(chosen), items=items, own=own, tables=tables, facts=facts, seeds={"noise": seed})
