"""The unembedding of a model as an artifact: what the comparer needs of the weights, without the model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tremor.experiments.session import Session
from tremor.record.recording import stored
from tremor.store.hdf5 import write_hdf5


def export(session: Session, *, data: Path, provenance: Mapping[str, Any]) -> None:
    """Write weight, bias and final norm in the type the session runs in.

    Args:
        session: The model, in the wanted type.
        data: HDF5 file to write: `weight` [vocabulary, d], `bias` [vocabulary], `gain` [d], `norm_bias` [d]; those
            that the model does not have are left out.
        provenance: Config, code and input digests.
    """
    loaded = session.loaded
    anatomy = loaded.anatomy
    parts: dict[str, Tensor | None] = {
        "weight": anatomy.unembedding.weight,
        "bias": getattr(anatomy.unembedding, "bias", None),
        "gain": getattr(anatomy.final_norm, "weight", None),
        "norm_bias": getattr(anatomy.final_norm, "bias", None),
    }
    write_hdf5(
        data,
        {name: stored(tensor) for name, tensor in parts.items() if tensor is not None},
        attributes={
            "model": session.manifest["alias"],
            "weights_digest": session.manifest["weights_digest"],
            "tokenizer_digest": session.manifest["tokenizer_digest"],
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "softcap": anatomy.logit_softcap,
            "scale": anatomy.logit_scale,
            "norm": None if anatomy.final_norm is None else type(anatomy.final_norm).__name__,
            "norm_adds_one": _adds_one(anatomy.final_norm),
            "tied": anatomy.tied,
        },
        provenance=session.provenance(**provenance),
    )


def _adds_one(norm: Any) -> bool:
    """Whether the norm multiplies by 1 + gain (Gemma), found by asking it."""
    gain = getattr(norm, "weight", None)
    if gain is None:
        return False
    probe = torch.full((1, gain.shape[-1]), 1.0, dtype=torch.float32)
    probe[0, ::2] = -1.0  # zero mean and unit square: every norm returns it times its gain
    found = norm(probe.to(gain)).detach().float()[0]
    bias = getattr(norm, "bias", None)
    found = found - (0.0 if bias is None else bias.float())
    factor = found * probe[0].to(found)
    return bool(torch.linalg.vector_norm(factor - 1 - gain.float()) < torch.linalg.vector_norm(factor - gain.float()))
