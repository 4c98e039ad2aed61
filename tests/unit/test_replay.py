"""Replaying a job: on a workflow of three lines, so that a job's bits can be made to differ."""

import json

import numpy as np
import pandas as pd
import pytest

from tremor.errors import ArtifactError, TremorError
from tremor.replay import Verdict, content, replay
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.tables import write_parquet

SNAKEFILE = """
rule first:
    output: "results/a.txt"
    shell: "echo one > {output}"

rule second:
    input: "results/a.txt"
    output: "results/b.txt", "results/c.txt"
    shell: "cat {input} > {output[0]}; cat extra >> {output[0]}; date +%s%N > {output[1]}"

rule broken:
    input: "results/a.txt"
    output: "results/d.txt"
    shell: "test -e extra.missing && touch {output}"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "extra").write_text("two\n")
    results = tmp_path / "results"
    results.mkdir()
    for name, text in (("a", "one\n"), ("b", "one\ntwo\n"), ("c", "12\n"), ("d", "")):
        (results / f"{name}.txt").write_text(text)
    return tmp_path


def test_it_says_which_files_of_the_job_agree_and_touches_none(folder):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (folder / "results").iterdir()}
    found = replay("results/b.txt", home=folder, folder=folder)
    assert found == [Verdict("results/b.txt", True), Verdict("results/c.txt", False)]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (folder / "results").iterdir()} == before
    assert not list(folder.glob(".replay-*"))


def test_an_edited_artifact_is_found_out(folder):
    (folder / "results/b.txt").write_text("one\nTWO\n")
    assert replay("results/b.txt", home=folder, folder=folder)[0] == Verdict("results/b.txt", False)


def test_a_job_that_fails_is_shown(folder):
    with pytest.raises(TremorError, match=r"results/d\.txt failed when it was run again"):
        replay("results/d.txt", home=folder, folder=folder)
    assert not list(folder.glob(".replay-*"))


@pytest.mark.parametrize(
    ("artifact", "message"),
    [
        ("results/none.txt", "does not exist; make it first: snakemake results/none.txt"),
        ("extra", "not below results/ or resources/"),
        ("../elsewhere", "lies outside"),
    ],
)
def test_what_no_job_made_is_refused(folder, artifact, message):
    with pytest.raises(ArtifactError, match=message):
        replay(artifact, home=folder, folder=folder)


def test_content_is_blind_to_provenance_and_to_nothing_else(tmp_path):
    """For every kind of artifact: two runs that differ in time only agree, one bit of a value does not."""
    arrays = [np.array([1.0, 2.0]), np.array([1.0, np.nextafter(2.0, 3.0)])]
    for name, index, wall in (("a", 0, 1.0), ("b", 0, 2.0), ("c", 1, 1.0)):
        value, origin = arrays[index], {"code": "x", "wall_s": wall}
        write_hdf5(tmp_path / f"{name}.h5", {"x": value}, attributes={"k": 1}, provenance=origin)
        frame = pd.DataFrame({"x": value})
        write_parquet(tmp_path / f"{name}.parquet", frame, provenance=origin, schema_version=1)
        write_json(tmp_path / f"{name}.json", {"x": value}, provenance=origin)
    for kind in ("h5", "parquet", "json"):
        first, again, other = (content(tmp_path / f"{name}.{kind}") for name in "abc")
        assert first == again
        assert first != other
    broken = tmp_path / "a.json"
    broken.write_text(json.dumps({"x": 1})[:-2])
    with pytest.raises(ArtifactError, match="not a complete JSON"):
        content(broken)
