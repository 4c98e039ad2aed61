"""Tremor: a seismograph for large language models.

In Python and in notebooks (docs/python.md):

    model = tremor.load("llama")
    point = model.at("The capital of France is")
    spectrum = point.spectrum()
    ray = point.boundary(spectrum.right[0])

Importing this package loads neither torch nor numpy: the workflow imports it at every start, and a platform must be
set up before torch is there. The names below come with their first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tremor.api.model import Model
    from tremor.api.opening import load, train
    from tremor.api.places import passages
    from tremor.api.point import Point
    from tremor.api.recordings import Comparison, Recording, read_recording
    from tremor.api.results import Boundary, Picture, PlaneBoundary, Spectrum, Step
    from tremor.api.weights import Ablation, Gain, Ranking

__version__ = "0.1.0"

_HOMES = {  # name -> module that has it
    "Model": "model",
    **dict.fromkeys(("load", "train"), "opening"),
    "passages": "places",
    "Point": "point",
    **dict.fromkeys(("Comparison", "Recording", "read_recording"), "recordings"),
    **dict.fromkeys(("Boundary", "Picture", "PlaneBoundary", "Spectrum", "Step"), "results"),
    **dict.fromkeys(("Ablation", "Gain", "Ranking"), "weights"),
}

__all__ = [
    "Ablation", "Boundary", "Comparison", "Gain", "Model", "Picture", "PlaneBoundary", "Point", "Ranking", "Recording",
    "Spectrum", "Step", "__version__", "load", "passages", "read_recording", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """A public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"tremor.api.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
