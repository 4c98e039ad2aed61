"""What every Snakemake process pays before its first job: the library that the rule files import."""

import subprocess
import sys

import pytest

from tremor import config as configuration
from tremor import digest
from tremor.errors import ConfigError
from tremor.graph import Graph


def test_the_rules_wait_for_no_array_library():
    code = (
        "import sys\n"
        "import tremor.config, tremor.graph, tremor.report.files, tremor.report.labels, tremor.report.numbers\n"
        "print(*{'numpy', 'torch', 'pandas', 'transformers', 'matplotlib', 'h5py'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_a_module_is_read_once_for_all_rules(monkeypatch, pytestconfig):
    """158 rules ask for digests of the same files; reading anew for each took more than all of Snakemake's parsing."""
    read: list[str] = []
    summary = digest._summary
    monkeypatch.setattr(digest, "_summary", lambda name, *rest: (read.append(name), summary(name, *rest))[1])
    graph = Graph(configuration.Config().model_dump(mode="json"), home=pytestconfig.rootpath)
    first = graph.code("experiments.boundary")
    assert graph.code("experiments.boundary") == first == digest.code_digest("experiments.boundary")
    graph.code("experiments.boundary", "experiments.session")
    own = read[: len(set(read))]
    assert len(own) > 10
    assert read.count(own[0]) == 2  # once for the graph, once for the function of its own


def test_files_of_the_users_are_found_and_named_as_they_were_written(monkeypatch, tmp_path, pytestconfig):
    def graph(**changes):
        return Graph(configuration.on_defaults(changes), home=pytestconfig.rootpath)

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "set.tsv").write_text("")
    assert graph(exp2={"prompts": "~/set.tsv"}).prompt_set("exp2") == str(tmp_path / "set.tsv")
    with pytest.raises(ConfigError, match=r"^recorder\.questions: the question set mine\.tsv cannot be read"):
        graph(recorder={"questions": "mine.tsv"}).questions  # noqa: B018
    with pytest.raises(ConfigError, match=r"^recorder: no question is called 'x' in .*default\.tsv; it has capital"):
        graph(recorder={"names": ["x"]}).questions  # noqa: B018
