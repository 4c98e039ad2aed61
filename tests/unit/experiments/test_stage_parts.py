"""exp8 on recordings written by hand: each part against numbers computed another way, and against known defects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import staged
from tremor import floats
from tremor.errors import ArtifactError
from tremor.experiments import decision_path, norm_effect, stage_divergence, stage_statistics, stage_values
from tremor.store.documents import read_json
from tremor.store.hdf5 import Hdf5Reader, read_hdf5, write_hdf5
from tremor.store.tables import read_csv

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
DECADES = {"smallest_decade": -15, "largest_decade": -1}


def everything(folder: Path, a: list[Path], b: list[Path]) -> Path:
    """All parts without kernels."""
    matrix = staged.write_matrix(folder / "unembedding.h5")
    stage_divergence.compare(
        a,
        b,
        divergence=folder / "divergence.csv",
        table=folder / "stages.csv",
        statistics=folder / "divergence.json",
        provenance=ORIGIN,
    )
    given: dict[str, Any] = {"divergence": folder / "divergence.csv", "provenance": ORIGIN}
    norm_effect.measure(
        a, b, unembedding=matrix, top_k=3, table=folder / "angles.csv", ranking=folder / "ranking.csv",
        statistics=folder / "angles.json", **given,
    )  # fmt: skip
    decision_path.trace(
        a, b, unembedding=matrix, path=folder / "path.csv", first=folder / "first.csv", growth=folder / "growth.csv",
        statistics=folder / "path.json", **given,
    )  # fmt: skip
    stage_values.compare(
        a, b, settings=DECADES, table=folder / "values.csv", data=folder / "values.h5",
        statistics=folder / "values.json", **given,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two questions: one parts at row 3, one never does."""
    folder = tmp_path_factory.mktemp("parted")
    a, b, first, second = staged.turned(3)
    same = staged.states(5)
    ours = [
        staged.write(folder / "a1.h5", a, logits=first),
        staged.write(folder / "a2.h5", same, question="q02", prompt=(9,)),
    ]
    theirs = [
        staged.write(folder / "b1.h5", b, logits=second),
        staged.write(folder / "b2.h5", same, question="q02", prompt=(9,)),
    ]
    return everything(folder, ours, theirs)


@pytest.fixture(scope="module")
def identical(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identical")
    path = staged.write(folder / "a.h5", staged.states())
    return everything(folder, [path], [path])


def test_divergence(parted: Path) -> None:
    table = read_csv(parted / "divergence.csv").set_index("question")
    assert table["status"].to_dict() == {"q01": "token", "q02": "none"}
    assert table.loc["q01", "row"] == table.loc["q01", "index"] == 3
    assert table["index"].isna().tolist() == [False, True]
    assert table.loc["q01", "runner_up_wins"]
    # The margin is the logits' own: 1e-3 in float32 near their size of a few units.
    assert table.loc["q01", "margin_a"] == pytest.approx(1e-3, rel=1e-2)
    told = read_json(parted / "divergence.json")
    assert (told["token"], told["none"], told["tied"], told["duplicates"]) == (1, 1, 0, 1)


def test_stages_at_both_rows(parted: Path) -> None:
    table = read_csv(parted / "stages.csv")
    own = table[table["question"] == "q01"]
    before, decision = own[own["which"] == "before"], own[own["which"] == "decision"]
    assert (before["row"] == 2).all()
    assert before["equal_bits"].all()  # the row before has the same bits: the original looked for the answer there
    changed = decision[~decision["equal_bits"]]
    assert changed["stage"].tolist() == list(staged.TAPS[7:])
    assert (changed["ulp_max"] == 1).all()
    assert table.loc[table["duplicate_of"] != "", "stage"].unique().tolist() == ["block.0.mixer"]


def test_identical_runs_give_zeros_everywhere(identical: Path) -> None:
    stages, values = read_csv(identical / "stages.csv"), read_csv(identical / "values.csv")
    columns = ["n_changed_bits", "max_abs", "l1", "l2", "relative_l2", "cosine_distance", "ulp_max", "n_flipped_bits"]
    assert (stages[columns].to_numpy() == 0).all()
    assert (values[["n_changed_bits", "percent_changed", "l2", "ulp_max"]].to_numpy() == 0).all()
    path, growth = read_csv(identical / "path.csv"), read_csv(identical / "growth.csv")
    assert (path["gap_difference"] == 0).all()
    assert not path["sign_differs"].any()
    assert (growth[["l2", "ulp_max"]].to_numpy() == 0).all()
    first = read_csv(identical / "first.csv")
    assert first["decision_stage"].isna().all() or (first["decision_stage"] == "").all()
    assert first["first_row"].isna().all()
    told = stage_values_total(identical)
    assert told["equal_bits"] == values["width"].sum()
    assert sum(told.values()) == values["width"].sum()
    assert read_json(identical / "path.json")["questions_with_differing_bits"] == 0


def stage_values_total(folder: Path) -> dict[str, int]:
    found: dict[str, int] = read_json(folder / "values.json")["by_decade"]
    return found


def test_projections_against_plain_sums(parted: Path) -> None:
    table = read_csv(parted / "path.csv")
    head = read_csv(parted / "divergence.csv").set_index("question").loc["q01"]
    a, b, _, _ = staged.turned(3)
    matrix = staged.weight().astype(np.float64)
    own = table[(table["question"] == "q01") & (table["which"] == "decision")].set_index("stage")
    assert "block.0.mlp.up_proj" not in own.index  # of another width
    assert "block.0.mixer" not in own.index  # a duplicate
    for name, row in own.iterrows():
        for side, states in (("a", a), ("b", b)):
            state = states[str(name)][3].astype(np.float64)
            dots = [sum(state * matrix[int(head[token])]) for token in ("chosen_a", "chosen_b")]
            # Sums of twelve products of size one in float64, in another order.
            assert row[f"gap_{side}"] == pytest.approx(dots[0] - dots[1], abs=1e-13)
            assert row[f"dot_token_b_{side}"] == pytest.approx(dots[1], abs=1e-13)
            assert row[f"favours_{side}"] == ("a" if dots[0] > dots[1] else "b")
            cosine = dots[0] / np.sqrt((state**2).sum() * (matrix[int(head["chosen_a"])] ** 2).sum())
            assert row[f"cosine_token_a_{side}"] == pytest.approx(cosine, abs=1e-13)


def test_an_exact_tie_favours_nobody() -> None:
    """The original gave a tie to the second token."""
    assert [decision_path.favours(gap) for gap in (1e-30, -1e-30, 0.0, -0.0, float("nan"))] == [
        "a", "b", "tie", "tie", "nan",
    ]  # fmt: skip


def test_the_answer_is_the_first_differing_bit_not_a_sign(tmp_path: Path) -> None:
    """A projection near zero turns its sign without any say; the first differing bits are elsewhere, and known."""
    a, b, first, second = staged.turned(3)
    matrix = staged.weight().astype(np.float64)
    one, other = (int(np.argmax(logits[3])) for logits in (first, second))
    across = matrix[one] - matrix[other]
    # residual.1 of the first run: almost orthogonal to the difference, so that a step or two turns the sign.
    plain = a["residual.1"][3].astype(np.float64)
    flat = floats.round_to(plain - across * (plain @ across) / (across @ across), "float32")
    a["residual.1"][3] = flat
    sign = np.sign(flat.astype(np.float64) @ across) or 1.0
    b["residual.1"][3] = (flat - sign * 1e-5 * across / np.linalg.norm(across)).astype(np.float32)
    staged.up(b["block.0.self_attn.q_proj"][3])
    ours, theirs = (
        [staged.write(tmp_path / "a.h5", a, logits=first)],
        [staged.write(tmp_path / "b.h5", b, logits=second)],
    )
    folder = everything(tmp_path, ours, theirs)
    path = read_csv(folder / "path.csv")
    flipped = path[(path["which"] == "decision") & path["sign_differs"]]["stage"].tolist()
    assert "residual.1" in flipped
    answer = read_csv(folder / "first.csv").iloc[0]
    assert answer["decision_stage"] == "block.0.self_attn.q_proj"
    assert (answer["decision_block"], answer["decision_ulp_max"], answer["first_row"]) == (0, 1, 3)
    assert answer["decision_changed_coordinates"] == 1


def test_growth_follows_the_stream(parted: Path) -> None:
    growth = read_csv(parted / "growth.csv")
    own = growth[growth["question"] == "q01"]
    assert own["stage"].tolist() == ["embedding", "residual.1", "final_prenorm"]
    assert own["l2"].tolist()[:2] == [0.0, 0.0]
    assert own["ulp_max"].tolist() == [0.0, 0.0, 1.0]
    assert own["growth"].isna().all()  # nothing to nothing, and something from nothing, are no factors


def test_growth_over_several_blocks_is_no_growth_of_one(tmp_path: Path) -> None:
    """With recorder.tap_questions most questions hold the ends of the stream only."""
    a, _, first, _ = staged.turned(3)
    b = {name: 1.5 * values for name, values in a.items()}
    for name, taps in (("whole", staged.TAPS), ("ends", ("embedding", "final_prenorm", "final"))):
        (tmp_path / name).mkdir()
        runs = [
            staged.write(tmp_path / name / f"{side}.h5", {tap: states[tap] for tap in taps}, logits=first)
            for side, states in (("a", a), ("b", b))
        ]
        growth = read_csv(everything(tmp_path / name, runs[:1], runs[1:]) / "growth.csv").set_index("stage")
        if name == "whole":
            sizes = growth["l2"].to_numpy()
            np.testing.assert_allclose(growth["growth"].to_numpy()[1:], sizes[1:] / sizes[:-1], rtol=1e-12)
        else:
            assert (growth["l2"] > 0).all()
            assert growth["growth"].isna().all()


def test_angles(parted: Path) -> None:
    table = read_csv(parted / "angles.csv")
    a, _, first, _ = staged.turned(3)
    own = table[(table["question"] == "q01") & (table["which"] == "decision") & (table["run"] == "a")]
    matrix = staged.weight().astype(np.float64)
    assert own["token"].tolist() == np.argsort(-first[3], kind="stable")[:3].tolist()
    for _, row in own.iterrows():
        vector = matrix[int(row["token"])]
        for kind, tap in (("before", "final_prenorm"), ("after", "final")):
            state = a[tap][3].astype(np.float64)
            cosine = state @ vector / np.linalg.norm(state) / np.linalg.norm(vector)
            assert row[f"cosine_{kind}"] == pytest.approx(cosine, abs=1e-14)
            assert row[f"angle_{kind}_degrees"] == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-10)
    # RMSNorm without its gain turns nothing: what is left is float32 rounding of the stored states (6e-8 rad).
    assert own["change_gain_free_degrees"].abs().max() < 1e-4
    assert own["change_degrees"].abs().max() > 0.1
    assert set(table["run"]) == {"a", "b"}
    ranking = read_csv(parted / "ranking.csv")
    assert not ranking["ranking_changed_gain_free"].any()


def test_a_model_without_a_final_norm(tmp_path: Path) -> None:
    attributes = {"norm": None, "norm_adds_one": False}
    write_hdf5(tmp_path / "u.h5", {"weight": staged.weight()}, attributes=attributes, provenance={})
    with Hdf5Reader(tmp_path / "u.h5") as matrix:
        norm = norm_effect.FinalNorm(matrix)
    assert norm.kind == "none"
    np.testing.assert_array_equal(norm.gain_free(np.arange(float(staged.WIDTH))), np.arange(float(staged.WIDTH)))


def test_angles_of_parallel_and_opposite_vectors() -> None:
    vector = np.array([3.0, -4.0, 12.0])
    assert norm_effect.angle_between(vector, 2 * vector) == 0.0
    assert norm_effect.angle_between(vector, -vector) == pytest.approx(np.pi)
    # cos of this angle is 1 in float64; the angle itself keeps its digits.
    small = norm_effect.angle_between(np.array([1.0, 0.0]), np.array([1.0, 1e-9]))
    assert small == pytest.approx(1e-9, rel=1e-6)
    assert np.isnan(norm_effect.angle_between(vector, np.zeros(3)))


def test_each_value_is_in_one_decade() -> None:
    """The original's counts were cumulative already and were summed once more."""
    a = np.zeros(8)
    b = np.array([0.0, -0.0, 1e-20, 3e-15, 1e-3, 2e-3, 0.5, np.nan])
    counts = stage_values.decade_counts(a, b, range(-15, 0))
    named = dict(zip(["equal", "zero", "below", *range(-15, 0), "lost"], counts.tolist(), strict=True))
    assert {k: v for k, v in named.items() if v} == {
        "equal": 1, "zero": 1, "below": 1, -15: 1, -3: 2, -1: 1, "lost": 1,
    }  # fmt: skip
    assert counts.sum() == 8
    generator = np.random.default_rng(0)
    x = generator.normal(size=5000).astype(np.float32)
    y = (x + 10.0 ** generator.uniform(-17, 1, 5000)).astype(np.float32)
    counts = stage_values.decade_counts(x, y, range(-15, 0))
    size = np.abs(x.astype(np.float64) - y.astype(np.float64))
    # Brute force by logarithms; no difference of floats lies within 1e-12 of a power of ten here.
    expected = [int(np.sum(np.floor(np.log10(size[size > 0])) == p)) for p in range(-15, -1)]
    assert counts[3:-2].tolist() == expected
    assert counts[0] == np.sum(size == 0)
    assert counts[-2] == np.sum(size >= 0.1)
    assert counts.sum() == 5000


def test_ulp_classes() -> None:
    base = np.full(6, 1.0, dtype=np.float32)
    moved = floats.from_ordered(floats.ordered(base, "float32") + np.array([0, 1, 2, 3, 4, 1000]), "float32")
    counts = stage_values.ulp_counts(base, moved)
    assert counts[:4].tolist() == [1, 1, 2, 1]  # 0; 1; 2 and 3; 4
    assert counts[10] == 1  # 512 to 1023
    broken = moved.copy()
    broken[0] = np.nan
    assert stage_values.ulp_counts(base, broken)[-1] == 1
    half = staged.stored(floats.round_to(base, "bfloat16"), "bfloat16")
    up = staged.stored(floats.next_up(floats.round_to(base, "bfloat16"), "bfloat16"), "bfloat16")
    assert stage_values.ulp_counts(half, up)[1] == 6  # steps of bfloat16, not 65536 of float32


def test_values(parted: Path) -> None:
    table, data = read_csv(parted / "values.csv"), read_hdf5(parted / "values.h5")
    assert (data.array("decades").sum(axis=1) == table["width"]).all()
    assert (data.array("ulps").sum(axis=1) == table["width"]).all()
    own = table[table["question"] == "q01"].set_index("stage")
    assert own.loc["block.1.mixer", "percent_changed"] == pytest.approx(100 / staged.WIDTH)
    assert own.loc["residual.1", "n_changed_bits"] == 0
    assert "block.0.mixer" not in own.index
    assert (own["row"] == 3).all()  # the row that decided, not the one before


def test_two_types_are_compared_by_value(tmp_path: Path) -> None:
    held = staged.states()
    a = staged.write(tmp_path / "a.h5", held)
    with_bits = {name: floats.round_to(values, "bfloat16") for name, values in held.items()}
    b = staged.write(tmp_path / "b.h5", with_bits, dtype="bfloat16", ids=None)
    folder = everything(tmp_path, [a], [b])
    values = read_csv(folder / "values.csv")
    # Rounding to 8 significant bits is at most 2^-9 of a value.
    assert values["relative_l2"].max() < 2.0**-8
    assert values["relative_l2"].min() > 0


def test_recordings_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    a = staged.write(tmp_path / "a.h5", staged.states())
    other = staged.write(tmp_path / "b.h5", staged.states(), prompt=(1, 2, 3))
    with pytest.raises(ArtifactError, match="prompt ids"):
        everything(tmp_path, [a], [other])
    with pytest.raises(ArtifactError, match="questions"):
        everything(tmp_path, [a], [a, other])
    (tmp_path / "whole").mkdir()
    folder = everything(tmp_path / "whole", [a], [a])
    shorter = staged.write(tmp_path / "c.h5", {name: v[:3] for name, v in staged.states().items()})
    with pytest.raises(ArtifactError, match="not of these recordings"):
        stage_values.compare(
            [shorter], [shorter], divergence=folder / "divergence.csv", settings=DECADES, table=tmp_path / "v.csv",
            data=tmp_path / "v.h5", statistics=tmp_path / "v.json", provenance=ORIGIN,
        )  # fmt: skip


def test_final_states_alone_say_nothing_of_the_norm_and_the_path(tmp_path: Path) -> None:
    """With recorder.taps: final. A norm that is not known must not be told to turn nothing."""
    only = [staged.write(tmp_path / "a.h5", {"final": staged.states()["final"]})]
    stage_divergence.compare(
        only, only, divergence=tmp_path / "d.csv", table=tmp_path / "t.csv", statistics=tmp_path / "t.json",
        provenance=ORIGIN,
    )  # fmt: skip
    given: dict[str, Any] = {
        "divergence": tmp_path / "d.csv", "unembedding": staged.write_matrix(tmp_path / "u.h5"), "provenance": ORIGIN,
    }  # fmt: skip
    with pytest.raises(ArtifactError, match=r"does not hold the states 'final_prenorm' .* record more with"):
        norm_effect.measure(
            only, only, top_k=3, table=tmp_path / "x.csv", ranking=tmp_path / "r.csv", statistics=tmp_path / "x.json",
            **given,
        )  # fmt: skip
    with pytest.raises(ArtifactError, match=r"no state of the residual stream; record both with recorder\.taps"):
        decision_path.trace(
            only, only, path=tmp_path / "p.csv", first=tmp_path / "f.csv", growth=tmp_path / "g.csv",
            statistics=tmp_path / "p.json", **given,
        )  # fmt: skip


def test_a_damaged_recording_is_an_error(tmp_path: Path) -> None:
    path = staged.write(tmp_path / "a.h5", staged.states())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="truncated"):
        everything(tmp_path, [path], [path])


def test_statistics_without_kernels_say_null(parted: Path, tmp_path: Path) -> None:
    parts = {name: parted / f"{name}.json" for name in ("divergence", "angles", "path", "values")}
    stage_statistics.merge(parts, output=tmp_path / "statistics.json", provenance=ORIGIN)
    told = read_json(tmp_path / "statistics.json")
    assert told["kernels"] == dict.fromkeys(stage_statistics.KERNELS)
    assert told["divergence"]["questions"] == 2
    assert "provenance" not in told["path"]
