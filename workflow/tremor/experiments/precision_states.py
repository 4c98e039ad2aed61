"""exp3, the model's part: one precision's answers to all selected prompts, one load."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tremor.experiments import gains, nudges
from tremor.experiments.session import Session
from tremor.probe.base import base_point, to_array, to_tensor
from tremor.probe.readout import Readout
from tremor.store.hdf5 import write_hdf5
from tremor.store.tables import write_csv


@torch.no_grad()
def measure(
    session: Session,
    prompts: Mapping[str, Mapping[str, Any]],
    *,
    precision: str,
    probe: Mapping[str, Any],
    top_tokens: int,
    data: Path,
    table: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write embedding, last hidden state and logits of every prompt, and the most likely tokens.

    Args:
        session: The loaded model, in float64 for ``true_float64``.
        prompts: Alias to ``text`` and ``bos``.
        precision: ``bfloat16``, ``float16``, ``float32`` or ``true_float64``.
        probe: Config block ``probe``.
        top_tokens: Tokens to name.
        data: HDF5 file: for each prompt ids, x0, h0 and logits.
        table: CSV file: for each prompt its most likely tokens.
        provenance: Config, code and input digests.
    """
    first = next(iter(prompts.values()))
    loaded, gate = gains.in_precision(session, precision, first["text"], bos=first["bos"])
    decode = gains.decoder(loaded)
    datasets: dict[str, Any] = {}
    rows = []
    mode = ""
    for name, prompt in prompts.items():
        base = base_point(loaded, prompt["text"], bos=prompt["bos"])
        response = nudges.respond(loaded, base, ("final",), probe=probe, max_memory=session.max_memory)
        readout = Readout(response, max_memory=session.max_memory)
        state = to_tensor(response.h0, base.embeddings)[None]
        logits = to_array(next(found for _, found in readout.logits(state))[0])
        mode = response.mode
        datasets |= {f"{name}/ids": base.ids, f"{name}/x0": base.x, f"{name}/h0": response.h0, f"{name}/logits": logits}
        wide = logits.astype(np.float64)
        shares = np.exp(wide - wide.max())
        shares /= shares.sum()
        order = np.argsort(-wide, kind="stable")[:top_tokens]  # of equal logits the lowest id first, as argmax does
        rows += [
            {
                "prompt": name,
                "precision": precision,
                "rank": rank,
                "token_id": int(token),
                "token": decode(int(token)),
                "logit": float(wide[token]),
                "probability": float(shares[token]),
            }
            for rank, token in enumerate(order, start=1)
        ]
    origin = session.provenance(**provenance)
    attributes = {
        "precision": precision,
        "dtype": gains.dtype_of(loaded),
        "mode": mode,
        "gate_relative_error": gate["relative_error"] if gate else -1.0,
        "prompts": list(prompts),
    }
    write_hdf5(data, datasets, attributes=attributes, provenance=origin)
    write_csv(table, pd.DataFrame(rows), provenance=origin)
