"""Figures of esa/robustness, esa/adversarial and esa/bit-level: what is drawn is what the tables say."""

import numpy as np
import pandas as pd
import pytest

from tremor.figures import esa_bits, esa_faults, save


@pytest.fixture
def levels():
    rows = []
    for kind, size in (("gaussian", 1.0), ("targeted", 0.5), ("random", 0.1)):
        for level in (0.01, 0.1, 1.0):
            row = {"kind": kind, "level": level, "scale": "std"}
            for name in ("delta_nll", "kl", "flip_rate"):
                value = size * level * (-1 if name == "delta_nll" and level == 0.01 else 1)
                row |= {name: value, f"{name}_low": value - 0.5 * abs(value), f"{name}_high": value + 0.5 * abs(value)}
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture
def effects():
    return pd.DataFrame(
        {
            "attack": ["fgsm", "hotflip"], "size": [0.1, 1.0], "unit": ["epsilon", "tokens"], "scale": ["rms", None],
            "changed_rate": [0.5, 1.0], "changed_rate_low": [0.2, 0.7], "changed_rate_high": [0.8, 1.0],
            "random_changed_rate": [0.0, 0.4], "delta_nll": [1.0, 5.0], "delta_nll_low": [0.5, 4.0],
            "delta_nll_high": [1.5, 6.0], "random_delta_nll": [-0.01, 2.0],
        }
    )  # fmt: skip


@pytest.fixture
def bits():
    fields = {7: "sign", 6: "exponent", 5: "exponent", 4: "mantissa"}
    positions = pd.DataFrame(
        [
            {"format": "float32", "component": c, "bit": b, "field": f, "cases": 2, "silent": 2 if b == 4 else 0,
             "nan": 1 if b == 6 else 0, "inf": 0, "kl_max": 0.0 if b == 4 else 10.0**-b}
            for c in ("q", "down") for b, f in fields.items()
        ]
    )  # fmt: skip
    attack = pd.DataFrame(
        {
            "rule": "free", "role": ["search", "search", "random"], "draw": [np.nan, np.nan, 0.0], "flips": [0, 1, 1],
            "nll": [3.0, np.nan, 3.1], "attacked_nll": [3.0, np.nan, np.nan],
        }
    )  # fmt: skip
    precision = pd.DataFrame(
        {"setting": ["mantissa_2", "mantissa_23", "int8"], "bit": [2, 23, np.nan], "kl": [0.1, 0.0, 0.01],
         "delta_nll": [-0.1, 0.0, 0.01]}
    )  # fmt: skip
    ones = pd.DataFrame(
        [{"component": c, "bit": b, "field": f, "ones": b / 10} for c in ("q", "down") for b, f in fields.items()]
    )
    exponents = pd.DataFrame(
        {"component": ["q", "q", "down", "down"], "exponent": [-127, -4, -5, -4], "zero_code": -127,
         "weights": [1, 9, 5, 5]}
    )  # fmt: skip
    return positions, attack, precision, ones, exponents


def test_noise_that_lowers_the_nll_is_shown(levels):
    axes = esa_faults.noise(levels).axes
    assert axes[0].get_yscale() == "symlog"
    line = next(line for line in axes[0].lines if line.get_label().startswith("gaussian, all"))
    assert line.get_ydata().tolist() == [-0.01, 0.1, 1.0]
    assert [a.get_yscale() for a in axes[1:]] == ["log", "log"]
    assert "std of the tensor" in axes[0].get_xlabel()


def test_attacks_are_named_with_their_size(effects):
    left, right = esa_faults.success(effects).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["fgsm, ε = 0.1 rms", "hotflip, 1 token"]
    assert right.get_xlim()[0] < 0  # a fall has its place


def test_silent_and_broken_cells_are_marked(bits):
    axes = esa_bits.positions(bits[0]).axes[0]
    marks = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert marks == {((3, 0), "•"), ((3, 1), "•"), ((1, 0), "×"), ((1, 1), "×")}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["7", "6", "5", "4"]


def test_a_destroyed_model_is_a_cross_and_no_number(bits):
    axes = esa_bits.attack(bits[1]).axes[0]
    cross = next(line for line in axes.lines if line.get_label() == "NaN or infinite")
    assert cross.get_xdata()[0] == 1


def test_zeros_are_not_joined_to_the_numbers(bits):
    right = esa_bits.statistics(bits[3], bits[4]).axes[1]
    assert [line.get_xdata().tolist() for line in right.lines] == [[-4], [-5, -4]]
    assert right.lines[0].get_ydata()[0] == pytest.approx(0.9)


def test_files_are_the_same_each_time(levels, effects, bits, tmp_path):
    positions, attack, precision, ones, exponents = bits
    drawn = {
        "noise": lambda: esa_faults.noise(levels, title="a"),
        "success": lambda: esa_faults.success(effects, title="a"),
        "positions": lambda: esa_bits.positions(positions),
        "attack": lambda: esa_bits.attack(attack),
        "precision": lambda: esa_bits.precision(precision),
        "statistics": lambda: esa_bits.statistics(ones, exponents),
    }
    for name, draw in drawn.items():
        paths = [tmp_path / f"{name}{i}.png" for i in range(2)]
        for path in paths:
            save.save(draw(), [path], provenance={}, dpi=72)
        assert paths[0].read_bytes() == paths[1].read_bytes()
