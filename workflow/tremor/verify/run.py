"""Verify a model: run the checks one after the other, and turn what the library refuses into a verdict."""

import logging
from collections.abc import Sequence
from pathlib import Path

from tremor.errors import ConfigError, TremorError
from tremor.models import catalogue, loader
from tremor.models.loader import LoadedModel
from tremor.verify import derivatives, forwards, weights
from tremor.verify.report import CHECKS, Check, Verification
from tremor.verify.subject import Subject, Wrong

TEXT = "The capital of Spain is Madrid, and the one of Peru is Lima"

_RUNS = {
    "taps": forwards.taps,
    "resume": forwards.resume,
    "reference": forwards.reference,
    "batched": forwards.batched,
    "recording": forwards.recording,
    "float64": derivatives.float64,
    "jacobian": derivatives.jacobian,
    "spectrum": derivatives.spectrum,
    "boundary": forwards.boundary,
    "super_weights": weights.super_weights,
    "gain": derivatives.gain,
}
_log = logging.getLogger(__name__)


def chosen(only: Sequence[str]) -> list[str]:
    """Checks by name, in the order in which they run; all where none is named.

    Raises:
        ConfigError: A name is none of a check.
    """
    for name in only:
        if name not in CHECKS:
            raise ConfigError(f"there is no check '{name}'; there are {', '.join(CHECKS)}")
    return [name for name in _RUNS if not only or name in only]


def verify(loaded: LoadedModel, *, name: str, text: str = TEXT, only: Sequence[str] = ()) -> Verification:
    """Run the instruments on a loaded model, each held to something independent of it.

    Args:
        loaded: A model in float32 (or float64); it is left as it is. A copy in true float64 is made beside it.
        name: What to call it.
        text: The prompt; two tokens at least.
        only: Checks to run, all if empty.

    Returns:
        The verdicts. A check that raises an error of Tremor's is refused, with its message.

    Raises:
        ConfigError: A check does not exist.
        PromptError: The prompt gives fewer than two tokens, or too many.
    """
    subject = Subject(loaded, text)
    mixers = tuple(dict.fromkeys(part.mixer_kind for part in loaded.anatomy.block_parts))
    parts = loaded.anatomy.block_parts
    experts = f", {parts[-1].n_experts} experts" if parts[-1].n_experts else ""
    found = [Check("anatomy", "pass", f"{len(parts)} blocks ({', '.join(mixers)}){experts}")]
    for check in chosen(only):
        try:
            measured = _RUNS[check](subject)
            found.append(Check(check, "pass", measured.detail, measured.numbers))
        except Wrong as wrong:
            found.append(Check(check, "fail", str(wrong)))
        except TremorError as refusal:
            found.append(Check(check, "refused", " ".join(str(refusal).split())))
        _log.info("%s: %s (%s)", check, found[-1].verdict, found[-1].detail)
    return Verification(name, str(loaded.model.config.model_type), mixers, tuple(found))


def verify_folder(
    folder: Path,
    *,
    name: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    attention: str = "auto",
    text: str = TEXT,
    only: Sequence[str] = (),
) -> Verification:
    """Load a model from its folder and verify it; a model that is not understood is refused, not an error.

    Args:
        folder: As save_pretrained writes it.
        name: What to call it; its folder's name by default.
        dtype: "float32" or "float64".
        device: "auto", "cpu" or "cuda" (also "cuda:<n>").
        attention: "auto", "eager" or "sdpa".
        text: The prompt.
        only: Checks to run, all if empty.

    Raises:
        ConfigError: The type is narrower than float32, or a check does not exist.
        ModelError: The folder is no model's.
    """
    if dtype not in ("float32", "float64"):
        raise ConfigError(f"a verification runs in float32 or float64, not {dtype}: its bounds are those of fine steps")
    chosen(only)
    called = name or folder.resolve().name
    kind = str(catalogue.check(folder)["model_type"])
    try:
        loaded = loader.load(folder, dtype=dtype, device=device, attention=attention)
    except TremorError as refusal:
        return Verification(called, kind, (), (Check("anatomy", "refused", " ".join(str(refusal).split())),))
    return verify(loaded, name=called, text=text, only=only)
