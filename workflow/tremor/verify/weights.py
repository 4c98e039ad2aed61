"""The check of the search for super weights: spikes are planted, and must be seen where they were put."""

import torch

from tremor.errors import ModelError
from tremor.models.loader import LoadedModel
from tremor.verify.report import Measured
from tremor.verify.subject import Subject, require
from tremor.weights import spikes
from tremor.weights.mutate import Edit, mutated, set_to

LOUD = 100.0  # times the largest output of any block


def plant(loaded: LoadedModel, point: spikes.Watched, peak: spikes.Peak, loudest: float) -> tuple[int, int, int, float]:
    """Which weight makes a spike: the column is the loudest input's, the row another one than the loudest output's.

    Returns:
        Row, column, flat index in the parameter as stored, and the value that makes an output of `LOUD` times the
        loudest.
    """
    weight = loaded.anatomy.parameter(point.tensor)
    outputs = weight.shape[1 if point.transposed else 0]
    row, column = (peak.row + 1) % outputs, peak.column
    flat = column * weight.shape[1] + row if point.transposed else row * weight.shape[1] + column
    return row, column, flat, LOUD * loudest / peak.input_value


def super_weights(subject: Subject) -> Measured:
    """Plant a spike in each block in turn and read the peaks; let the search find the one in the first block."""
    loaded, ids = subject.loaded, subject.ids[0]
    points = spikes.watched(loaded.anatomy)
    clean = spikes.peaks(loaded, ids)
    loudest = max(abs(peak.output_value) for peak in clean)
    for point, before in zip(points, clean, strict=True):
        if before.input_value == 0:
            raise ModelError(f"{point.tensor} is given nothing but zeros by this prompt; use another one")
        row, column, flat, value = plant(loaded, point, before, loudest)
        edit = Edit(point.tensor, torch.tensor([flat]))
        with mutated(loaded, [edit], set_to(value)):
            (seen,) = (peak for peak in spikes.peaks(loaded, ids) if peak.block == point.block)
            where = f"a spike planted at [{row}, {column}] of {point.tensor}"
            require((seen.row, seen.column) == (row, column), f"{where} is seen at [{seen.row}, {seen.column}]")
            # The rest of the row adds less than the loudest output there was.
            require(
                abs(seen.share - 1) <= 1 / LOUD + 1e-3, f"{where} makes {seen.share:.3g} of the output by its share"
            )
            if point is points[0]:
                threshold = 0.5 * min(abs(seen.input_value), abs(seen.output_value))
                found, _ = spikes.find(loaded, [ids], threshold=threshold, most=1)
                places = [(weight.tensor, weight.row, weight.column) for weight in found]
                require(places == [(point.tensor, row, column)], f"{where} is not what the search finds: {places}")
    again = spikes.peaks(loaded, ids)
    require(again == clean, "the model is not as it was after the spikes were taken out")
    return Measured(f"seen in {len(points)} of {loaded.anatomy.n_layers} blocks", {"blocks": len(points)})
