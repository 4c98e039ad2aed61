"""The Lipschitz studies of the originals' un-numbered scripts: archive, gpt_oss (with router flips), and the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tremor import floats
from tremor.experiments import gains, nudges
from tremor.experiments.gain_results import plateaus
from tremor.experiments.prompt_set import read_prompts
from tremor.experiments.session import Session
from tremor.probe.base import to_array, to_tensor
from tremor.probe.noise import noise_floor
from tremor.probe.readout import Readout
from tremor.probe.routing import recorded
from tremor.progress import track
from tremor.statistics.quotient import distribution
from tremor.store.atomic import replacing
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.tables import write_csv


def measure(
    session: Session,
    *,
    study: str,
    prompts: Path,
    probe: Mapping[str, Any],
    spectrum: Mapping[str, Any],
    settings: Mapping[str, Any],
    data: Path,
    table: Path,
    quotients: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Difference quotients of one model over some prompts, with the experts that a mixture chooses.

    Args:
        session: The loaded model, in its own type.
        study: ``archive`` or ``gpt_oss``: which steps and directions of the settings.
        prompts: The prompt set.
        probe: Config block ``probe``. A model with routers is measured one row at a time.
        spectrum: Config block ``spectrum``.
        settings: Config block ``lipschitz``.
        data: HDF5 file: for each prompt its singular values, and the router flips [rows, layers] if there are routers.
        table: CSV file, one row for each prompt.
        quotients: CSV file, one row for each prompt, direction and step.
        statistics: JSON file to write.
        provenance: Config, code and input digests.
    """
    loaded, seed, top_k = session.loaded, int(settings["noise_seed"]), int(settings["top_k"])
    routed = [part.index for part in loaded.anatomy.block_parts if part.router is not None]
    record = bool(settings["routing"]) and bool(routed)
    asked = {**probe, "batch_size": 1} if record else probe
    powers = settings[f"{study}_powers"]
    datasets: dict[str, Any] = {}
    rows, nudged, evaluated, mode = [], [], 0, ""
    chosen = read_prompts(prompts, settings["names"])
    for prompt in track(chosen, "prompts"):
        there = gains.place(loaded, prompt, spectrum, bos=settings["bos"], max_memory=session.max_memory)
        tools = gains.instruments(
            loaded, there, probe=asked, max_memory=session.max_memory, samples=settings["floor_samples"], seed=seed
        )
        along = gains.ranks(top_k, settings[f"{study}_ranks"], len(there.spectrum.singular_values))
        with recorded(loaded) as routing:
            found, run, flips = gains.quotient_table(
                loaded,
                there,
                tools,
                along,
                powers,
                arithmetic=settings["arithmetic"],
                routing=routing if record else None,
            )
        rows.append(gains.spectrum_row(there, top_k, tools.floor, tools.response.h0))
        nudged.append(found)
        evaluated, mode = evaluated + run, tools.response.mode
        datasets[f"{prompt.name}/ids"] = there.base.ids
        datasets[f"{prompt.name}/singular_values"] = there.spectrum.singular_values
        if flips is not None:
            datasets[f"{prompt.name}/router_flips"] = flips
    frame, steps = pd.DataFrame(rows), pd.concat(nudged, ignore_index=True)
    origin = session.provenance(seeds={"noise_floor": seed}, **provenance)
    attributes = {
        "study": study,
        "dtype": gains.dtype_of(loaded),
        "arithmetic": settings["arithmetic"],
        "mode": mode,
        "spectrum_method": spectrum["method"],
    }
    names = [prompt.name for prompt in chosen]
    write_hdf5(data, datasets, attributes={**attributes, "prompts": names, "router_layers": routed}, provenance=origin)
    write_csv(table, frame, provenance=origin)
    write_csv(quotients, steps, provenance=origin)
    document = {
        "prompts": len(frame),
        "sigma_1": distribution(frame["sigma_1"]),
        "noise_floor_l2": distribution(frame["noise_floor_l2"]),
        "leading": plateaus(steps),
        "rows": len(steps),
        "evaluated_inputs": evaluated,
        "token_changes": int(steps["token_changed"].sum()),
        "router": router_counts(steps, len(routed) if record else 0),
        "max_residual": float(frame["max_residual"].max()),
        "converged": bool(frame["converged"].all()),
        **attributes,
    }
    write_json(statistics, document, provenance=origin)


def router_counts(steps: pd.DataFrame, layers: int) -> dict[str, Any]:
    """How often a nudge changes the experts chosen, and at which steps; None throughout without routers."""
    if not layers:
        return {"layers": 0, "rows_flipped": None, "smallest_step_flipped": None, "largest_step_unflipped": None}
    flipped = steps["router_flips"] > 0
    sizes, still = steps.loc[flipped, "epsilon"], steps.loc[~flipped, "epsilon"]
    return {
        "layers": layers,
        "rows_flipped": int(flipped.sum()),
        "smallest_step_flipped": float(sizes.min()) if len(sizes) else None,
        "largest_step_unflipped": float(still.max()) if len(still) else None,
    }


@torch.no_grad()
def report(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    spectrum: Path,
    data: Path,
    text: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """One step along one singular vector, with all vectors kept: the original's rounding error report.

    Args:
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        probe: Config block ``probe``.
        settings: Config block ``lipschitz``.
        spectrum: The spectrum artifact of this model, prompt and dtype.
        data: HDF5 file: input, states and logits at x and at p, their differences in float64, and the direction.
        text: The report to read.
        statistics: The same numbers as JSON.
        provenance: Config, code and input digests.
    """
    base, source = nudges.open_base(session, prompt, spectrum)
    index = nudges.ranked(source, settings["report_vector"], key="lipschitz.report_vector")
    direction, sigma = source.array("right")[index], float(source.array("singular_values")[index])
    size, arithmetic = float(settings["report_step"]), settings["arithmetic"]
    response = nudges.respond(session.loaded, base, ("final",), probe=probe, max_memory=session.max_memory)
    floor = noise_floor(
        response,
        nudges.smooth_map(session, base, source),
        samples=settings["floor_samples"],
        seed=settings["noise_seed"],
    )
    p = floats.nudge(base.x, direction, size, arithmetic=arithmetic, fmt=base.fmt)
    states = np.concatenate([response.h0[None], response.evaluate(p[None])])
    readout = Readout(response, max_memory=session.max_memory)
    pairs = to_tensor(states, base.embeddings)
    logits = np.concatenate([to_array(found) for _, found in readout.logits(pairs)])
    hidden_diff, logit_diff = (np.diff(both.astype(np.float64), axis=0)[0] for both in (states, logits))
    step = floats.realised_step(base.x, p[None], direction, base.fmt)
    smooth = nudges.smooth_map(session, base, source)(p[None].astype(np.float64) - base.x.astype(np.float64))
    change, realised = float(np.linalg.norm(hidden_diff)), float(step.l2[0])
    decode = gains.decoder(session.loaded)
    tokens = [int(np.argmax(row)) for row in logits]
    found = {
        "prompt": base.text,
        "vector": index + 1,
        "sigma": sigma,
        "epsilon": size,
        "moved_coordinates": int(step.moved_coordinates[0]),
        "width": len(base.x),
        "realised_l2": realised,
        "realised_along": float(step.along[0]),
        "off_direction_l2": float(step.off_direction[0]),
        "hidden_diff_l2": change,
        "logit_diff_l2": float(np.linalg.norm(logit_diff)),
        "smooth_prediction_l2": float(np.linalg.norm(smooth)),
        "noise_floor_l2": floor.median_l2,
        "quotient_nominal": change / size,
        "quotient_realised": change / realised if realised else None,
        "above_floor": change > floor.high_l2,
        "orig_token": decode(tokens[0]),
        "pert_token": decode(tokens[1]),
        "token_changed": tokens[0] != tokens[1],
        "arithmetic": arithmetic,
        "mode": response.mode,
        "dtype": base.fmt,
    }
    origin = session.provenance(seeds={"noise_floor": int(settings["noise_seed"])}, **provenance)
    datasets = {
        "x0": base.x,
        "perturbed_input": p,
        "singular_direction": direction,
        "fx_hidden_state": states[0],
        "fx_pert_hidden_state": states[1],
        "hidden_state_diff": hidden_diff,
        "fx_logits": logits[0],
        "fx_pert_logits": logits[1],
        "logit_diff": logit_diff,
    }
    write_hdf5(data, datasets, attributes={k: v for k, v in found.items() if v is not None}, provenance=origin)
    with replacing(text) as temporary:
        temporary.write_text(report_text(found), encoding="utf-8")
    write_json(statistics, found, provenance=origin)


def report_text(found: Mapping[str, Any]) -> str:
    """The report in words."""
    said = "above" if found["above_floor"] else "not above"
    realised = "the input did not move" if found["quotient_realised"] is None else f"{found['quotient_realised']:.6g}"
    return f"""Rounding error report
=====================
prompt                        {found["prompt"]}
direction                     right singular vector {found["vector"]}, sigma = {found["sigma"]:.6g}
step asked for                {found["epsilon"]:.6g} embedding units
step that was made            {found["realised_l2"]:.6g}
  coordinates moved           {found["moved_coordinates"]} of {found["width"]}
  along the direction         {found["realised_along"]:.6g}
  across it                   {found["off_direction_l2"]:.6g}
change of the hidden state    {found["hidden_diff_l2"]:.6g} hidden-state units
  smooth prediction           {found["smooth_prediction_l2"]:.6g}
  rounding noise floor        {found["noise_floor_l2"]:.6g}
change of the logits          {found["logit_diff_l2"]:.6g}
quotient by step asked for    {found["quotient_nominal"]:.6g}
quotient by step made         {realised}
most likely token             {found["orig_token"]!r} before, {found["pert_token"]!r} after

The change is {said} the 95 % quantile of the rounding noise. Where it is not, the quotients are noise over step, not
a gain.
"""
