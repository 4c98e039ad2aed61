"""Blocks exp6 and exp7: what is refused, and that the defaults and the paper's parameters agree with the study."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tremor.config import Config, load
from tremor.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"exp6": {"steps": 400}}, "got 400; give an odd number"),
        ({"exp7": {"points": 100}}, "got 100; give an odd number"),
        ({"exp7": {"planes": [[3, 3]]}}, "names the singular vector 3 twice in one plane"),
        ({"exp7": {"planes": [[1, 2], [1, 2]]}}, "lists a plane twice"),
        ({"exp7": {"planes": [[1, "first"]]}}, "exp7.planes"),
        ({"exp7": {"radii": [1e-7, 1e-7]}}, "lists a radius twice"),
        ({"exp7": {"window": 13, "points": 11}}, r"window \(13\) is wider than the maps \(11 points\)"),
        ({"exp7": {"zoom_window": [[1e-8, 1e-8], [0, 1e-8]]}}, "is empty; give two different ends"),
        ({"exp6": {"methods": ["probability"]}}, "'geometric' has no tie; add it to exp6.methods"),
    ],
)
def test_nonsense_is_refused_with_a_remedy(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(block)


def test_the_paper_s_parameters_are_those_of_the_study() -> None:
    preset = yaml.safe_load((ROOT / "config/presets/paper.yaml").read_text())
    config = load(preset)
    assert (config.exp6.directions, config.exp6.steps, config.exp6.epsilon) == (5, 2001, 1e-6)
    assert config.exp7.points == 201
    assert 1e-8 in config.exp7.radii
    assert config.exp7.planes == ((1, 2), (1, 10), (1, "last"))
    assert "float32" in config.exp7.arithmetic


def test_defaults_are_small_and_odd() -> None:
    config = Config()
    assert config.exp6.max_evaluations == 30
    assert config.exp7.points % 2 == 1
    assert len(config.exp7.radii) == 3
