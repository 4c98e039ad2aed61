"""Block cross: what is refused, and what `auto` stands for."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tremor.config import load
from tremor.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cross": {"scores": [], "methods": []}}, "scores and methods are both empty"),
        ({"cross": {"scores": ["wanda", "wanda"]}}, "scores lists a name twice"),
        ({"cross": {"scores": ["magnitude"], "methods": ["magnitude"]}}, "is in both scores and methods"),
        ({"cross": {"controls": 1}}, "cross.controls"),
        ({"cross": {"controls": 4, "deep_controls": 5}}, "are some of the 4 controls"),
        ({"cross": {"deep_controls": 1}}, "no distribution"),
        ({"cross": {"scores": ["obd"]}}, "'obd' is not ranked; add it to critical_weights.metrics"),
        (
            {"cross": {"methods": ["spikes"]}, "esa": {"super_weights": {"methods": ["magnitude"]}}},
            "'spikes' is not listed; add it to esa.super_weights.methods",
        ),
        (
            {"critical_weights": {"metrics": ["obd"]}, "esa": {"super_weights": {"methods": ["wanda"]}}},
            "auto finds no list",
        ),
    ],
)
def test_nonsense_is_refused_with_a_remedy(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(changes)


def chosen(changes: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    config = load(changes)
    return config.cross.chosen(config.critical_weights.metrics, config.esa.super_weights.methods)


def test_auto_takes_what_is_ranked_and_no_list_twice() -> None:
    assert chosen({}) == (("taylor_abs", "grad_squared"), ("spikes", "magnitude"))
    assert chosen({"critical_weights": {"metrics": ["magnitude"]}}) == ((), ("spikes", "magnitude"))
    assert chosen({"cross": {"scores": ["magnitude"]}}) == (("magnitude",), ("spikes",))
    assert chosen({"cross": {"methods": ["taylor_abs"]}}) == (("grad_squared",), ("taylor_abs",))


def test_the_paper_s_preset_has_lists_to_examine() -> None:
    scores, methods = chosen(yaml.safe_load((ROOT / "config/presets/paper.yaml").read_text()))
    assert "grad_squared" in scores
    assert "spikes" in methods
