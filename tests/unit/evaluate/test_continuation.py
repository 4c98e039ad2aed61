"""Log-probability of continuations, and task files for the harness: chain rule, plain data only, a clear refusal."""

import importlib.util
import math

import pytest

from tremor.errors import ConfigError, PlatformError
from tremor.evaluate import harness
from tremor.evaluate.continuation import continuation, rolling
from tremor.evaluate.tasks import data_files, read_task

TASK = "task: mine\ndataset_path: json\ndataset_kwargs: {data_files: {test: data.jsonl}}\noutput_type: loglikelihood\n"


@pytest.fixture
def task(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"text": "Water is wet."}\n')
    (tmp_path / "task.yaml").write_text(TASK)
    return tmp_path / "task.yaml"


def test_continuations_follow_the_chain_rule(loaded_model):
    loaded = loaded_model("llama")
    whole = continuation(loaded, "The capital", " of France is")[0]
    parts = continuation(loaded, "The capital", " of")[0] + continuation(loaded, "The capital of", " France is")[0]
    # Sums of a few float32 log-probabilities of size 8.
    assert whole == pytest.approx(parts, rel=1e-5)
    assert rolling(loaded, "The capital of") == pytest.approx(continuation(loaded, "", "The capital of")[0], rel=1e-5)


def test_blanks_before_a_continuation_belong_to_it(loaded_model):
    loaded = loaded_model("llama")
    assert continuation(loaded, "The capital ", "of") == continuation(loaded, "The capital", " of")


def test_greedy_is_what_the_model_would_write(loaded_model):
    loaded = loaded_model("llama")
    from tremor.evaluate.generation import generate

    written = generate(loaded, "The capital of France is", tokens=1).text
    assert continuation(loaded, "The capital of France is", written)[1] or not written.strip()


def test_data_files_are_found_beside_the_task(task):
    assert data_files(read_task(task)) == [str(task.parent / "data.jsonl")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TASK.replace("json\n", "EleutherAI/wikitext_document_level\n", 1), "would be fetched"),
        (TASK + "doc_to_target: !function code.run\n", "no plain YAML"),
        (TASK.replace("data.jsonl", "other.jsonl"), "does not exist"),
        ("- 1\n", "names no task"),
        (TASK.replace("dataset_kwargs: {data_files: {test: data.jsonl}}\n", ""), "data_files is missing"),
    ],
)
def test_tasks_that_run_code_or_need_the_network_are_refused(task, text, message):
    task.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_task(task)


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="the optional harness is installed")
def test_without_the_harness_the_error_says_how_to_install_it(task, loaded_model):
    with pytest.raises(PlatformError, match="pip install lm-eval"):
        harness.run(loaded_model("llama"), [task])


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs the optional harness lm-eval")
def test_the_harness_counts_as_we_do(task, loaded_model):
    loaded = loaded_model("llama")
    task.write_text(
        TASK.replace("output_type: loglikelihood\n", "output_type: loglikelihood_rolling\ntest_split: test\n")
        + 'doc_to_text: ""\ndoc_to_target: "{{text}}"\nmetric_list: [{metric: bits_per_byte}]\n'
    )
    (row,) = harness.run(loaded, [task])
    text = "Water is wet."
    assert row["value"] == pytest.approx(-rolling(loaded, text) / math.log(2) / len(text), abs=1e-4)
