"""noise_floors: how far the answer of one platform is from true float64, in each type and mode, over some prompts.

The exact answer is true float64 of the weights as rounded to the type, so that a floor is about arithmetic alone; what
the rounding of the weights does beside it is a distance of its own, between two true float64 models.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tremor.experiments.prompt_set import SetPrompt, read_prompts
from tremor.experiments.session import Session
from tremor.models import loader, true64, true64_gate
from tremor.models.loader import LoadedModel
from tremor.probe.base import base_point, dtype_name, to_array, to_tensor
from tremor.probe.response import ControlReport, Response, as_bits
from tremor.statistics.floors import distances, summarise
from tremor.store.tables import write_csv

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Answer:
    """What a model says at the last position of one prompt."""

    state: Array  # [d] the final state, carrier type
    logits: Array  # [vocab]
    control: ControlReport  # of the final state
    logits_exact: bool  # equal rows and equal runs of the unembedding have equal bits


@torch.no_grad()
def answer(loaded: LoadedModel, prompt: SetPrompt, *, mode: Any, batch_size: int, bos: Any) -> Answer:
    """The unperturbed answer in one mode, and whether the A/A control is exact there.

    Raises:
        NumericsError: a state is NaN or infinite.
    """
    base = base_point(loaded, prompt.text, bos=bos)
    response = Response(loaded, base, mode=mode, batch_size=batch_size, require_exact=False)
    weight = loaded.anatomy.unembedding.weight
    assert isinstance(weight, torch.Tensor)
    rows = to_tensor(response.h0, weight)[None].repeat(response.batch_size, 1)
    first, again = loaded.anatomy.unembed(rows), loaded.anatomy.unembed(rows)
    same = torch.equal(as_bits(first), as_bits(again))
    same &= torch.equal(as_bits(first), as_bits(first[:1].expand_as(first)))
    return Answer(response.h0, to_array(first[0]), response.control, same)


def measure(
    session: Session,
    *,
    directory: Path,
    prompts: Path,
    settings: Mapping[str, Any],
    table: Path,
    details: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Measure every type and mode on this platform.

    Args:
        session: The model on this platform, in one of the types; it is float64 afterwards.
        directory: The folder with its weights.
        prompts: The prompt set.
        settings: Config block ``noise_floors``.
        table: CSV file to write: one row for each type and mode.
        details: CSV file to write: one row for each type, mode and prompt.
        provenance: Config, code and input digests.

    Raises:
        NumericsError: the model may not be called float64, or a state is NaN or infinite.
    """
    chosen = read_prompts(prompts, settings["names"])
    wide = true64.widen(_load(session, directory, "float64"))
    gate = true64_gate.require(wide, base_point(wide, chosen[0].text, bos=settings["bos"])).relative_error
    stored = _answers(wide, chosen, settings, "reference")
    del wide
    rows: dict[str, list[dict[str, Any]]] = {}
    # The session's own model comes last, for it is held all the time and is widened in place.
    own = dtype_name(session.loaded.dtype)
    for dtype in sorted(settings["dtypes"], key=lambda name: name == own):
        model = session.loaded if dtype == own else _load(session, directory, dtype)
        found = {mode: _answers(model, chosen, settings, mode) for mode in settings["modes"]}
        attention = model.attention
        exact = _answers(true64.widen(model), chosen, settings, "reference")
        rows[dtype] = [
            {
                "dtype": dtype,
                "mode": mode,
                "prompt": prompt.name,
                "attention": attention,
                "batch_size": told.control.batch_size,
                **_errors(told, truth, plain),
                "control_exact": told.control.exact,
                "logits_exact": told.logits_exact,
                "control_worst_ulps": told.control.worst_ulps,
                "bits": _digest(answers),
                "gate_relative_error": gate,
            }
            for mode, answers in found.items()
            for prompt, told, truth, plain in zip(chosen, answers, exact, stored, strict=True)
        ]
    frame = pd.DataFrame([row for dtype in settings["dtypes"] for row in rows[dtype]])
    origin = session.provenance(**provenance)
    write_csv(details, frame, provenance=origin)
    write_csv(table, summarise(frame), provenance=origin)


def _load(session: Session, directory: Path, dtype: str) -> LoadedModel:
    return loader.load(
        directory,
        dtype=dtype,
        device=str(session.loaded.device),
        attention=session.loaded.attention,
        digest=str(session.manifest["weights_digest"]),
    )


def _answers(model: LoadedModel, chosen: Sequence[SetPrompt], settings: Mapping[str, Any], mode: str) -> list[Answer]:
    batch, bos = int(settings["batch_size"]), settings["bos"]
    return [answer(model, prompt, mode=mode, batch_size=batch, bos=bos) for prompt in chosen]


def _errors(told: Answer, truth: Answer, plain: Answer) -> dict[str, Any]:
    state, _ = distances(told.state, truth.state)
    logits, largest = distances(told.logits, truth.logits)
    return {
        "state_relative_l2": state,
        "logits_relative_l2": logits,
        "logit_error": largest,
        "weights_relative_l2": distances(truth.state, plain.state)[0],
        "token_changed": bool(np.argmax(told.logits) != np.argmax(truth.logits)),
    }


def _digest(answers: Sequence[Answer]) -> str:
    """Twelve digits that are equal where all bits of all states and logits are."""
    found = hashlib.sha256()
    for each in answers:
        found.update(each.state.tobytes() + each.logits.tobytes())
    return f"sha256:{found.hexdigest()[:12]}"
