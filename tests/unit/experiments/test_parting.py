"""exp4 on recordings made by hand: each part's files, their edges, ties, and refusals."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthetic import Pretended, Side, write_pair, write_recording, write_unembedding
from tremor.config import Config, block
from tremor.errors import ArtifactError
from tremor.experiments import angles, dimensions, divergence, divergence_summary, embeddings, summaries, top_logits
from tremor.store.arrays import array_digest
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5, write_hdf5
from tremor.store.tables import read_csv, read_parquet

ORIGIN: dict[str, Any] = {"config": {}, "code": "code-digest", "inputs": {}}
MODEL = Pretended()
SETTINGS = block(Config(), "exp4")
PARTING = Side(drift_from=2, turn_at=6)


class Study:
    """All parts of exp4 on one pair, as the scripts run them."""

    def __init__(self, folder: Path, a: Side, b: Side, *, questions: int = 2) -> None:
        self.folder = folder
        self.a, self.b = write_pair(folder, MODEL, a, b, questions=questions)
        self.document = folder / "divergence.json"

    def part2(self) -> Any:
        divergence.measure(
            self.a, self.b, pair=("one", "other"), table=self.folder / "divergence.parquet", document=self.document,
            provenance=ORIGIN,
        )  # fmt: skip
        return read_json(self.document)

    def part3(self) -> Any:
        return dimensions.measure(
            self.a, self.b, self.document, SETTINGS, table=self.folder / "dimensions.csv",
            statistics=self.folder / "dimensions.json", provenance=ORIGIN,
        )  # fmt: skip

    def parts5_and_6(self) -> Any:
        for side in ("a", "b"):
            embeddings.extract(
                self.a,
                self.b,
                self.document,
                side=side,
                output=self.folder / f"embeddings_{side}.h5",
                provenance=ORIGIN,
            )
        embeddings.compare(
            self.folder / "embeddings_a.h5", self.folder / "embeddings_b.h5", SETTINGS,
            table=self.folder / "embeddings.csv", rows=self.folder / "rows.parquet",
            statistics=self.folder / "embeddings.json", provenance=ORIGIN,
        )  # fmt: skip
        return read_csv(self.folder / "embeddings.csv")

    def part7(self) -> Any:
        return top_logits.measure(
            self.a, self.b, self.document, SETTINGS, tokenizer=self.folder, table=self.folder / "tokens.csv",
            rows=self.folder / "top_rows.csv", provenance=ORIGIN,
        )  # fmt: skip

    def angles(self, side: str, dtype: str = "float32") -> Any:
        matrix = self.folder / f"unembedding_{dtype}.h5"
        write_unembedding(matrix, MODEL, dtype)
        return angles.measure(
            self.a if side == "a" else self.b, matrix, SETTINGS, data=self.folder / f"angles_{side}.parquet",
            table=self.folder / f"ranks_{side}.csv", statistics=self.folder / f"angles_{side}.json", provenance=ORIGIN,
        )  # fmt: skip


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = Study(tmp_path_factory.mktemp("parted"), Side(), PARTING)
    study.part2()
    return study


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = Study(tmp_path_factory.mktemp("same"), Side(), Side())
    study.part2()
    return study


def test_part_2(parted: Study) -> None:
    found = read_json(parted.document)
    assert found["all"]["diverged_by_token"] == 2
    assert found["all"]["divergence_index"]["mean"] == 6
    assert found["all"]["first_row_differing"]["max"] == 2
    assert found["dtypes"] == ["float32", "float32"]
    for question in found["questions"]:
        decisive, before = question["decisive"], question["before"]
        assert (decisive["row"], before["row"]) == (6, 5)
        # The row that decides token d is row d; at d - 1 both runs still agreed.
        assert decisive["a"]["token"] == question["divergence"]["token_a"] != question["divergence"]["token_b"]
        assert decisive["b"]["token"] == question["divergence"]["token_b"]
        assert before["a"]["token"] == before["b"]["token"]
        assert question["rows_common"] == question["common"]["l2"]["count"] == 7
        assert question["after"]["l2"]["count"] == 5
        assert question["piece_a"] == f" t{question['divergence']['token_a']}é"
        assert question["tokens"]["first_mismatches"][0] == 6
    rows = read_parquet(parted.folder / "divergence.parquet", schema_version=divergence.SCHEMA)
    assert len(rows) == 24
    one = rows[(rows["question"] == "q01") & (rows["context"] == "common")]
    assert found["questions"][0]["common"]["cosine_distance"]["mean"] == pytest.approx(one["cosine_distance"].mean())


def test_identical_platforms_give_zeros_in_every_part(same: Study) -> None:
    found = read_json(same.document)["all"]
    assert (found["diverged"], found["rows_differing"], found["questions_differing_in_bits"]) == (0, 0, 0)
    assert found["divergence_index"] == {"count": 0} | dict.fromkeys(
        ("mean", "std", "min", "median", "max", "q25", "q75")
    )
    assert found["common"]["l2"]["max"] == 0
    table = same.part3()
    assert not table["changed"].any()
    assert set(table["role"]) == {"last"}
    read = same.parts5_and_6()
    assert read["equal_bits"].all()
    assert (read["sha256_a"] == read["sha256_b"]).all()
    assert not read["tokens_changed"].any()
    tokens = same.part7()
    assert not tokens["logit_diff"].fillna(0).any()


def test_part_3_looks_at_the_decisive_row(parted: Study) -> None:
    table = parted.part3()
    assert set(zip(table["role"], table["row"], strict=True)) == {("decisive", 6), ("before", 5)}
    before = table[(table["role"] == "before") & (table["measure"] == "ulps") & (table["question"] == "q01")]
    assert before.set_index("threshold")["changed"].to_dict()[1.0] == 1
    assert before.set_index("threshold")["changed"].to_dict()[4.0] == 0
    document = read_json(parted.folder / "dimensions.json")
    assert document["decisive"]["ulp_max"]["count"] == 2


def test_part_4_keeps_rows_after_the_divergence_apart(parted: Study) -> None:
    dimensions.drift(parted.folder / "divergence.parquet", table=parted.folder / "drift.csv", provenance=ORIGIN)
    table = read_csv(parted.folder / "drift.csv").set_index(["question", "context", "measure"])
    assert table.loc[("q01", "common", "l2"), "count"] == 7
    assert table.loc[("q01", "after", "l2"), "count"] == 5
    assert table.loc[("q01", "after", "relative_l2"), "min"] > table.loc[("q01", "common", "relative_l2"), "median"]


def test_part_5_leaves_the_divergent_token_out(parted: Study) -> None:
    """The original included it, and so compared two matrices that had to differ."""
    table = parted.parts5_and_6()
    assert table["tokens"].tolist() == [7, 7]
    assert table["ids_equal"].all()
    assert table["equal_bits"].all()
    found = read_hdf5(parted.folder / "embeddings_a.h5")
    run = read_hdf5(parted.a[0])
    ids = [int(run.array("prompt_ids")[-1]), *run.array("generated_ids")[:6].tolist()]
    assert found.array("q01/ids").tolist() == ids
    assert np.array_equal(found.array("q01/embeddings"), MODEL.table[ids].astype(np.float32))
    assert found.attributes["sha256"]["q01"] == array_digest(MODEL.table[ids].astype(np.float32))


def test_part_6_sees_one_altered_bit(parted: Study, tmp_path: Path) -> None:
    parted.parts5_and_6()
    found = read_hdf5(parted.folder / "embeddings_b.h5")
    altered = found.array("q02/embeddings").copy()
    altered[4, 3] = np.nextafter(altered[4, 3], np.float32(9))
    attributes = {k: found.attributes[k] for k in ("side", "questions", "sha256", "tap")}
    attributes["sha256"] = {**attributes["sha256"], "q02": array_digest(altered)}
    write_hdf5(tmp_path / "b.h5", {**found.datasets, "q02/embeddings": altered}, attributes=attributes, provenance={})
    rows = embeddings.compare(
        parted.folder / "embeddings_a.h5", tmp_path / "b.h5", SETTINGS, table=tmp_path / "t.csv",
        rows=tmp_path / "r.parquet", statistics=tmp_path / "s.json", provenance=ORIGIN,
    )  # fmt: skip
    table = read_csv(tmp_path / "t.csv").set_index("question")
    assert table["equal_bits"].to_dict() == {"q01": True, "q02": False}
    assert table.loc["q02", ["tokens_changed", "first_changed"]].tolist() == [1, 4]
    assert rows.loc[rows["n_changed_bits"] > 0, ["question", "row", "ulp_max"]].values.tolist() == [["q02", 4, 1.0]]
    above = read_json(tmp_path / "s.json")["by_question"][1]["above"]
    assert [entry["coordinates"] for entry in above if entry["threshold"] in (1e-1, 1e-15)] == [0, 1]
    assert above[-1]["tokens_of_the_last"] == 1


def test_embeddings_of_two_types_are_two_matrices(tmp_path: Path) -> None:
    """A table on the bfloat16 lattice has equal numbers in both types, and the hash still tells them apart."""
    study = Study(tmp_path, Side(), Side(dtype="bfloat16"), questions=1)
    study.part2()
    table = study.parts5_and_6()
    assert (table["equal_bits"][0], table["equal_values"][0]) == (False, True)


def test_part_7_is_by_id(parted: Study) -> None:
    tokens = parted.part7()
    decisive = tokens[(tokens["role"] == "decisive") & (tokens["question"] == "q01")].set_index("token")
    parting = read_json(parted.document)["questions"][0]["divergence"]
    a, b = parting["token_a"], parting["token_b"]
    assert decisive.loc[[a, b], "rank_a"].tolist() == [1, 2]
    assert decisive.loc[[a, b], "rank_b"].tolist() == [2, 1]
    assert decisive.loc[a, "piece"] == f" t{a}é"
    assert decisive.loc[a, "logit_diff"] < 0 < decisive.loc[b, "logit_diff"]
    rows = read_csv(parted.folder / "top_rows.csv")
    assert rows["role"].tolist() == ["decisive", "before"] * 2


def test_ties_are_flagged(tmp_path: Path) -> None:
    """Where two tokens share the largest logit, the order of sorting decides and no platform."""
    study = Study(tmp_path, Side(), PARTING, questions=1)
    whole = read_hdf5(study.b[0])
    ties, margin, logits = (whole.array(name).copy() for name in ("ties", "margin", "top_logits"))
    ties[6], margin[6] = 2, 0.0
    logits[6, 1] = logits[6, 0]
    datasets = {**whole.datasets, "ties": ties, "margin": margin, "top_logits": logits}
    own = {k: v for k, v in whole.attributes.items() if k not in ("tremor_schema", "content_sha256")}
    write_hdf5(study.b[0], datasets, attributes=own, provenance={})
    found = study.part2()
    assert found["all"]["ties_at_divergence"] == 1
    assert found["questions"][0]["decisive"]["tied"]
    assert found["all"]["margin_ulps_at_divergence"]["min"] == 0


def test_angles(parted: Study) -> None:
    table = parted.angles("a")
    assert len(table) == 2 * 12 * len(SETTINGS["ranks"])
    assert table.groupby("rank")["recomputed"].first().to_dict() == {1: False, 2: False, 3: False, 10: False, 100: True}
    document = read_json(parted.folder / "angles_a.json")  # numpy's float32 ended the original here
    assert document["rows"] == 24
    assert document["same_first"] == 1.0
    first = table.loc[table["rank"] == 1, "angle_degrees"]
    assert document["all"]["1"]["q95"] == pytest.approx(np.percentile(first, 95))
    assert document["by_question"]["q02"]["100"]["count"] == 12
    ranks = read_csv(parted.folder / "ranks_a.csv")
    assert list(summaries.COLUMNS["exp4/angles"]) == list(ranks.columns)


def test_the_summary(parted: Study, tmp_path: Path) -> None:
    parted.part3()
    parted.parts5_and_6()
    for side in ("a", "b"):
        parted.angles(side)
    divergence_summary.join(
        divergence=parted.document, dimensions=parted.folder / "dimensions.json",
        embeddings=parted.folder / "embeddings.json",
        angles=[parted.folder / "angles_a.json", parted.folder / "angles_b.json"],
        output=tmp_path / "statistics.json", provenance=ORIGIN,
    )  # fmt: skip
    names = {"model": "m", "pair": "p", "platform_a": "one", "platform_b": "other"}
    summaries.gather("exp4", [tmp_path / "statistics.json"], [names], output=tmp_path / "s.csv", provenance=ORIGIN)
    with (tmp_path / "s.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["questions"], row["diverged"], row["divergence_index_median"]) == ("2", "2", "6.0")
    assert row["embeddings_equal"] == "2"
    assert float(row["angles_a_first_mean"]) > 0


def test_refusals(parted: Study, same: Study, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="one has 2 recordings and other has 1"):
        divergence.measure(
            parted.a,
            parted.b[:1],
            pair=("one", "other"),
            table=tmp_path / "t",
            document=tmp_path / "d",
            provenance=ORIGIN,
        )
    other = tmp_path / "q01.h5"
    write_recording(other, MODEL, Side(weights_digest="sha256:others"), prompt=(5, 6, 7, 1))
    with pytest.raises(ArtifactError, match="different weights"):
        divergence.measure(
            parted.a[:1],
            [other],
            pair=("one", "other"),
            table=tmp_path / "t",
            document=tmp_path / "d",
            provenance=ORIGIN,
        )
    with pytest.raises(ArtifactError, match="is not of these recordings"):
        list(divergence.opened(parted.a[:1], parted.b[:1], parted.document))
    with pytest.raises(ArtifactError, match=r"is not of .* and .*; delete it"):
        list(divergence.opened(parted.a[::-1], parted.b[::-1], parted.document))
    (tmp_path / "d.json").write_text("{}")
    with pytest.raises(ArtifactError, match="holds no divergences"):
        divergence.divergences(tmp_path / "d.json")
    matrix = tmp_path / "u.h5"
    attributes = {"softcap": None, "scale": None, "weights_digest": "sha256:others"}
    write_hdf5(matrix, {"weight": MODEL.weight}, attributes=attributes, provenance={})
    with pytest.raises(ArtifactError, match=r"u\.h5 is of another model"):
        angles.measure(
            parted.a, matrix, SETTINGS, data=tmp_path / "a", table=tmp_path / "b", statistics=tmp_path / "c",
            provenance=ORIGIN,
        )  # fmt: skip


def test_a_truncated_recording_stops_the_job(tmp_path: Path) -> None:
    study = Study(tmp_path, Side(), Side(), questions=1)
    content = study.b[0].read_bytes()
    study.b[0].write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match="truncated"):
        study.part2()
    assert not study.document.exists()


@pytest.mark.parametrize(("a", "b"), [(Side(length=1), Side(length=1, turn_at=0)), (Side(length=1), Side(length=4))])
def test_a_question_that_ends_at_once(tmp_path: Path, a: Side, b: Side) -> None:
    study = Study(tmp_path, a, b, questions=1)
    found = study.part2()
    assert found["questions"][0]["before"] is None
    study.part3()
    assert study.parts5_and_6()["tokens"].tolist() == [1]
    study.part7()
