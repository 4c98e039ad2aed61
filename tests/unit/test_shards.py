"""How items are cut: complete, disjoint, even, never through a batch; and what the rules make of the names."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tremor.config import Config, load
from tremor.errors import ConfigError
from tremor.shards import NOTHING, WHOLE, Layout, Shard, balanced, names, split


@given(st.integers(0, 500), st.integers(1, 40), st.integers(1, 9))
def test_runs_cover_all_items_once_and_cut_no_batch(total: int, count: int, step: int) -> None:
    found = split(total, count, step=step)
    assert len(found) == count
    assert [item for run in found for item in run] == list(range(total))
    assert all(run.start % step == 0 or run.start == total for run in found)
    batches = [-(-len(run) // step) for run in found]
    assert max(batches) - min(batches) <= 1  # as even as whole batches allow
    assert split(total, 1, step=step) == [range(total)]


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 5))
def test_no_shard_is_empty_or_it_is_refused(total: int, count: int, step: int) -> None:
    batches = -(-total // step)
    for name in names(count):
        shard = Shard.parse(name)
        if count <= batches:
            assert len(shard.rows(total, key="shards.exp12", step=step)) >= 1
        else:
            with pytest.raises(ConfigError, match=rf"shards.exp12 is {count}, but there are only"):
                shard.rows(total, key="shards.exp12", step=step)
    assert WHOLE.rows(total, key="", step=step) == range(total)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 20))
def test_runs_of_items_of_unlike_size_are_complete_and_as_even_as_the_largest_item_lets_them(
    sizes: list[int], count: int
) -> None:
    found = balanced(sizes, count)
    assert len(found) == count
    assert [item for run in found for item in run] == list(range(len(sizes)))
    if count <= len(sizes):
        assert min(map(len, found)) >= 1
    # An end is off its place by half an item at most, but where a run would be empty.
    if all(len(run) > 1 for run in found):
        assert max(sum(sizes[i] for i in run) for run in found) <= sum(sizes) / count + max(sizes)
    assert balanced(sizes, 1) == [range(len(sizes))]
    with pytest.raises(ValueError, match="cannot cut"):
        balanced(sizes, 0)


def test_nonsense_is_refused() -> None:
    for name in ("0-of-3", "4-of-3", "1-of-0", "1", "1-of-3.h5", "01-of-3"):
        with pytest.raises(ConfigError, match="no shard is called"):
            Shard.parse(name)
    for arguments in ((-1, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(ValueError, match="cannot cut"):
            split(*arguments[:2], step=arguments[2])


def test_rules_of_one_job_and_of_shards_exclude_each_other() -> None:
    layout = Layout({"exp12": 3, "exp13": 1, "exp7": 2})
    assert layout.several("exp12", "exp13") == "exp12"
    assert layout.several("exp13") == NOTHING
    assert (layout.unless("exp12", "a|b"), layout.when("exp12", "a|b")) == (NOTHING, "a|b")
    assert (layout.unless("exp13", "a|b"), layout.when("exp13", "a|b")) == ("a|b", NOTHING)
    assert layout.pattern == "1-of-2|2-of-2|1-of-3|2-of-3|3-of-3"
    assert Layout({"exp12": 1}).pattern == NOTHING
    found = layout.parts("{experiment}/{model}/{shard}.h5")(_Wildcards(experiment="exp7", model="m"))
    assert found == ["exp7/m/1-of-2.h5", "exp7/m/2-of-2.h5"]
    assert Layout.memory(None, SimpleNamespace(size_mb=100.2), 2) == 4604  # 2 (1500 + 8 * 100.2), rounded up
    assert layout.parts("{model}/{shard}.h5", "exp13")(_Wildcards(model="m")) == ["m/1-of-1.h5"]


class _Wildcards(SimpleNamespace):
    def items(self) -> list[tuple[str, str]]:
        return list(vars(self).items())


def test_shards_are_one_job_by_default_and_need_a_memory_that_is_the_same_everywhere() -> None:
    assert {count for _, count in Config().shards} == {1}
    with pytest.raises(ConfigError, match=r"probe.max_memory: auto is half of what is free"):
        load({"shards": {"exp12": 2}, "probe": {"max_memory": "auto"}})
    with pytest.raises(ConfigError, match=r"shards.exp12: got 0"):
        load({"shards": {"exp12": 0}})
    assert load({"probe": {"max_memory": "auto"}}).probe.max_memory == "auto"
    with pytest.raises(ConfigError, match=r"shards.exp7_zoom: a zoom that is cut out of the maps runs no model"):
        load({"shards": {"exp7_zoom": 2}, "exp7": {"zoom_method": "crop"}})
