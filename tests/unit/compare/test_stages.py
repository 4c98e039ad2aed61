"""Stages of two recordings: names, duplicates, the deciding row, and the first bits that differ."""

from pathlib import Path

import numpy as np
import pytest

import staged
from tremor.compare import stages
from tremor.compare.recording import open_recording
from tremor.errors import ArtifactError


def test_names() -> None:
    assert stages.stage_name("block.10.mlp.up_proj") == (10, "mlp.up_proj")
    assert stages.stage_name("residual.3") == (3, "residual")
    assert stages.stage_name("final_prenorm") == (None, "final_prenorm")


def test_a_name_for_the_same_tensor_is_a_duplicate_and_equal_width_alone_is_not(tmp_path: Path) -> None:
    """The original counted o_proj and the attention output, and mlp and down_proj, twice."""
    path = staged.write(tmp_path / "a.h5", staged.states())
    with open_recording(path) as a, open_recording(path) as b:
        found = {stage.name: stage for stage in stages.stages(a, b, [0, 2])}
    assert found["block.0.mixer"].duplicate_of == "block.0.self_attn.o_proj"
    assert [name for name, stage in found.items() if stage.duplicate_of] == ["block.0.mixer"]
    assert [stage.order for stage in found.values()] == list(range(len(staged.TAPS)))
    assert (found["residual.1"].block, found["residual.1"].part) == (1, "residual")
    assert found["block.0.mlp.up_proj"].width == staged.WIDE


def test_stages_equal_in_one_run_only_are_two(tmp_path: Path) -> None:
    held = staged.states()
    other = {name: values.copy() for name, values in held.items()}
    staged.up(other["block.0.mixer"][2])
    paths = staged.write(tmp_path / "a.h5", held), staged.write(tmp_path / "b.h5", other)
    with open_recording(paths[0]) as a, open_recording(paths[1]) as b:
        assert not any(stage.duplicate_of for stage in stages.stages(a, b, [0, 2]))


def test_stages_of_one_run_only_are_left_out(tmp_path: Path) -> None:
    held = staged.states()
    fewer = {name: values for name, values in held.items() if name != "block.1.mlp"}
    paths = staged.write(tmp_path / "a.h5", held), staged.write(tmp_path / "b.h5", fewer)
    with open_recording(paths[0]) as a, open_recording(paths[1]) as b:
        assert "block.1.mlp" not in {stage.name for stage in stages.stages(a, b, [0])}
        assert stages.unshared(a, b) == ["block.1.mlp"]
    paths = (
        staged.write(tmp_path / "c.h5", {"final": held["final"]}),
        staged.write(tmp_path / "d.h5", {"embedding": held["embedding"]}, ids=[1] * 6, logits=np.ones((6, 40), "f4")),
    )
    with open_recording(paths[0]) as a, open_recording(paths[1]) as b, pytest.raises(ArtifactError, match="in common"):
        stages.stages(a, b, [0])


def test_the_deciding_row_is_the_row_of_the_token(tmp_path: Path) -> None:
    """The original looked at row d - 1, which decided the token before, on which both runs agree."""
    a, b, first, second = staged.turned(3)
    one, other = (
        staged.write(tmp_path / "a.h5", a, logits=first),
        staged.write(tmp_path / "b.h5", b, logits=second),
    )
    with open_recording(one) as run, open_recording(other) as twin:
        found = stages.parted(run, twin)
        assert (found.divergence.index, found.row, found.rows) == (3, 3, {"decision": 3, "before": 2})
        assert (found.token_a, found.token_b) == (int(run.ids[3]), int(twin.ids[3]))
        assert found.decided
        held = [stage for stage in stages.stages(run, twin, [0, 2, 3]) if not stage.duplicate_of]
        decision = stages.at_row(run, twin, held, found.row)
        assert decision is not None
        assert (decision.stage.name, decision.difference.n_changed_bits) == ("block.1.mixer", 1)
        assert decision.difference.ulp_max == 1
        assert stages.at_row(run, twin, held, 2) is None
        first_one = stages.first_difference(run, twin, held, stop=found.row + 1)
        assert first_one is not None
        assert (first_one.row, first_one.stage.name) == (3, "block.1.mixer")


def test_an_earlier_row_comes_before_an_earlier_stage(tmp_path: Path) -> None:
    """Against a search by hand over all rows and stages, in the order they are computed."""
    generator = np.random.default_rng(7)
    for trial in range(6):
        a = staged.states(trial, 70)  # more rows than are read at a time
        b = {name: values.copy() for name, values in a.items()}
        for _ in range(3):
            name = staged.TAPS[int(generator.integers(len(staged.TAPS)))]
            staged.up(b[name][int(generator.integers(70))])
        expected = next(
            (row, name) for row in range(70) for name in staged.TAPS if a[name][row].tobytes() != b[name][row].tobytes()
        )
        logits = np.ones((70, 40), dtype=np.float32)
        paths = [
            staged.write(tmp_path / f"{trial}{side}.h5", run, ids=[1] * 70, logits=logits)
            for side, run in (("a", a), ("b", b))
        ]
        with open_recording(paths[0]) as run, open_recording(paths[1]) as twin:
            found = stages.first_difference(run, twin, stages.stages(run, twin, [0, 69]), stop=70)
        assert found is not None
        assert (found.row, found.stage.name) == expected


def test_equal_runs_have_no_first_difference(tmp_path: Path) -> None:
    path = staged.write(tmp_path / "a.h5", staged.states())
    with open_recording(path) as a, open_recording(path) as b:
        found = stages.parted(a, b)
        assert not found.decided
        assert found.divergence.kind == "none"
        assert found.row == staged.ROWS - 1
        assert found.token_a == int(a.ids[-1])
        assert found.token_b == int(a.top(found.row).ids[1])  # the runner-up: no run chose another token
        held = stages.stages(a, b, [0])
        assert stages.first_difference(a, b, held, stop=staged.ROWS) is None
        assert stages.at_row(a, b, held, 0) is None


def test_a_question_that_ends_at_once_has_no_row_before(tmp_path: Path) -> None:
    path = staged.write(tmp_path / "a.h5", staged.states(rows=1))
    with open_recording(path) as a, open_recording(path) as b:
        assert stages.parted(a, b).rows == {"decision": 0}


def test_a_run_that_stops_early_is_looked_at_where_both_have_a_row(tmp_path: Path) -> None:
    long, short = staged.states(), {name: values[:4] for name, values in staged.states().items()}
    paths = staged.write(tmp_path / "a.h5", long), staged.write(tmp_path / "b.h5", short)
    with open_recording(paths[0]) as a, open_recording(paths[1]) as b:
        found = stages.parted(a, b)
    assert (found.divergence.kind, found.divergence.index, found.row, found.decided) == ("length", 4, 3, False)
