"""Block exp4: what is refused, and that the paper's parameters are those of the original."""

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
        ({"threshold_powers": []}, r"exp4\.threshold_powers"),
        ({"threshold_powers": [0.5]}, r"exp4\.threshold_powers"),
        ({"ulps": [1, 1]}, "1 is listed twice"),
        ({"top": 11}, r"exp4\.top"),
        ({"ranks": [0]}, r"exp4\.ranks"),
        ({"rank": [1]}, "ranks"),
    ],
)
def test_nonsense_is_refused(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load({"exp4": block})


def test_the_originals_constants() -> None:
    paper = load(yaml.safe_load((ROOT / "config/presets/paper.yaml").read_text())).exp4
    assert paper.ranks == (1, 2, 3, 10, 100)
    assert (paper.top, paper.bins) == (5, 50)
    # Part 3 had 1e-1 to 1e-7; exp8's value comparison, which has the same counts, 1e-1 to 1e-15.
    assert Config().exp4.threshold_powers == tuple(range(-1, -16, -1))
