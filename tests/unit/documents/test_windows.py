"""Windows score every token once, with the context they promise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tremor.documents.windows import Window, batches, plan
from tremor.errors import ConfigError, PromptError


@given(st.integers(1, 400), st.integers(2, 70), st.data(), st.booleans())
def test_every_token_once_with_its_context(tokens: int, window: int, data: st.DataObject, bos: bool) -> None:
    stride = data.draw(st.integers(1, window // 2))
    if tokens == 1 and not bos:
        return
    windows = plan(tokens, window=window, stride=stride, bos=bos)
    scored = [t for w in windows for t in range(w.first, w.last + 1)]
    assert scored == list(range(0 if bos else 1, tokens))
    room = window - bos
    for index, each in enumerate(windows):
        assert each.last == each.stop  # the last input predicts the token behind it
        assert each.stop - each.start <= room
        assert each.start >= 0
        for t in range(each.first, each.last + 1):
            context = t - each.start
            # All that there is, or what the window leaves beside what it scores.
            assert context == t or context >= room + 1 - stride >= stride
        assert index == 0 or each.stop - each.start == room  # only a lone window is shorter


def test_the_first_window_scores_all_it_can() -> None:
    assert plan(10, window=8, stride=4, bos=True) == [Window(0, 7, 0, 7), Window(2, 9, 8, 9)]
    assert plan(5, window=8, stride=4, bos=False) == [Window(0, 4, 1, 4)]
    assert plan(1, window=8, stride=4, bos=True) == [Window(0, 0, 0, 0)]


def test_refusals() -> None:
    with pytest.raises(PromptError, match="1 token"):
        plan(1, window=8, stride=4, bos=False)
    with pytest.raises(PromptError, match="0 token"):
        plan(0, window=8, stride=4, bos=True)
    for stride in (0, 5):
        with pytest.raises(ConfigError, match="choose 1 to 4"):
            plan(100, window=8, stride=stride, bos=True)


def test_batches_have_one_shape() -> None:
    windows = plan(50, window=8, stride=4, bos=True)
    groups = batches(windows, 4)
    assert {len(group) for group in groups} == {4}
    assert list(dict.fromkeys(w for group in groups for w in group)) == windows
    assert [len(group) for group in batches(windows[:3], 8)] == [3]
