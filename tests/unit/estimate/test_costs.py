"""The cost table: complete, growing with what it should grow with, and priced as the formulas say."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tremor import config as configuration
from tremor.errors import ModelError, TremorError
from tremor.estimate import captures, costs, plan, report, shape, situation, work
from tremor.estimate.machine import Rates
from tremor.estimate.plan import Job
from tremor.graph import Graph

ROOT = Path(__file__).resolve().parents[3]
LLAMA = shape.from_config(shape.EMBEDDED["llama"])
RATES = Rates(
    start_model=4.5, start_arrays=0.6, start_figures=1.1, attention_call=3e-4, attention_backward=5e-4, scan_call=4e-4,
    scan_step=3e-5, scan_backward=1.5e-4, flops=1e11, svd=1.5e10, bandwidth=8e10,
)  # fmt: skip
# Rules of the graph; those of targets.smk make nothing themselves.
MAKING = [path.read_text() for path in (ROOT / "rules").glob("*.smk") if path.name != "targets.smk"]
RULES = sorted({name for text in MAKING for name in re.findall(r"^\s*rule (\w+):", text, re.M)})
WILDCARDS = {
    "model": "llama", "prompt": "capital", "arithmetic": "float64", "numerics": "float64", "precision": "float32",
    "dtype": "float32", "study": "archive", "tie": "geometric", "variant": "angles", "platform": "native",
    "pair": "repeat", "document": "sample", "experiment": "exp12", "shard": "1-of-2",
}  # fmt: skip


@pytest.fixture(scope="module")
def graph():
    return settings()


def settings(**changes):
    """The default configuration with some changes, as the graph's tables."""
    return Graph(configuration.merged(configuration.Config().model_dump(mode="json"), changes), home=ROOT)


def told(rule, graph, model=LLAMA, **wildcards):
    outputs = ("a.png", "b.png")
    return costs.entry(rule)(
        situation.Situation(Job(rule, {**WILDCARDS, **wildcards}, ("i",), outputs, 1), graph, model)
    )


def seconds(rule, graph, model=LLAMA, **wildcards):
    return work.price(told(rule, graph, model, **wildcards), model, RATES).seconds


def test_there_are_rules_to_be_checked():
    assert {"exp12_measure", "record", "spectrum_measure", "embedded_model"} <= set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_an_entry_that_gives_finite_numbers(rule, graph):
    for name in ("llama", "mamba"):
        model = shape.from_config(shape.EMBEDDED[name])
        cost = work.price(told(rule, graph, model), model, RATES)
        numbers = (cost.forwards, cost.backwards, cost.flops, cost.seconds, cost.memory, cost.disk)
        assert all(0 <= number < 1e15 for number in numbers), cost
        assert 0.1 < cost.seconds < 1000
        assert cost.memory > 1e7


def test_a_rule_without_an_entry_is_refused():
    with pytest.raises(TremorError, match=r"no entry in tremor/estimate/costs\.py"):
        costs.entry("exp99")


def test_no_entry_is_for_a_rule_that_is_gone():
    assert set(costs.COSTS) <= set(RULES)


def test_rules_that_run_a_model_are_told_as_such(graph):
    text = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    parts = re.split(r"^\s*rule ?(\w*):", text, flags=re.M)[1:]
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if "gpu=1" in body:
            # Rules made in a loop (shards of the recorder) carry no name here; their entry is that of `record`.
            assert told(name or "record", graph).start == "model", name


def test_generic_entries_say_so(graph):
    found = costs.generic("model")(situation.Situation(Job("x", WILDCARDS, (), (), 1), graph, LLAMA))
    assert work.price(found, LLAMA, RATES).generic == 1


@pytest.mark.parametrize(
    ("rule", "small", "large"),
    [
        ("exp12_measure", {"exp12": {"angles": 10}}, {"exp12": {"angles": 100000}}),
        ("exp13_measure", {"exp13": {"vectors": 2}}, {"exp13": {"vectors": 128}}),
        ("exp7_measure", {"exp7": {"points": 11}}, {"exp7": {"points": 401}}),
        ("exp2_measure", {"exp2": {"names": ["capital"]}}, {"exp2": {"names": "all"}}),
        ("record", {"recorder": {"tokens": 4}}, {"recorder": {"tokens": 400}}),
        ("critical_weights_measure", {"critical_weights": {"controls": 1}}, {"critical_weights": {"controls": 99}}),
        ("esa_super_weights_measure", {"esa": {"scores": {"probes": 2}}}, {"esa": {"scores": {"probes": 64}}}),
        ("delta_ablation", {"delta": {"percentage": {"controls": 1}}}, {"delta": {"percentage": {"controls": 99}}}),
        ("regimes_measure", {"regimes": {"decades": 14}}, {"regimes": {"decades": 240}}),
    ],
)
def test_more_asked_costs_more(rule, small, large):
    before, after = told(rule, settings(**small)), told(rule, settings(**large))
    assert after.forwards + after.backwards >= before.forwards + before.backwards
    assert seconds(rule, settings(**large)) > seconds(rule, settings(**small))


@pytest.mark.parametrize(
    "rule",
    [
        "spectrum_measure",
        "exp12_measure",
        "exp5_measure",
        "record",
        "critical_weights_measure",
        "delta_jacobian_measure",
    ],
)
def test_a_larger_model_costs_more(rule, graph):
    wide = replace(LLAMA, width=1024, inner=2560, block=11_000_000, layers=16)
    small, large = (work.price(told(rule, graph, m), m, RATES) for m in (LLAMA, wide))
    assert large.seconds > small.seconds
    assert large.flops > 10 * small.flops
    assert large.memory > small.memory


def test_bisection_takes_more_than_the_exact_search():
    assert seconds("exp12_measure", settings(exp12={"method": "bisection"})) > seconds("exp12_measure", settings())


def test_shards_share_the_work(graph):
    whole, half = told("exp12_measure", graph), told("boundary_shard", graph)
    assert half.evaluated == whole.evaluated / 2


def test_scores_hold_their_gradients_and_sums():
    """What a cluster is asked for and what is told before are the same copies of the weights."""
    own = settings(critical_weights={"metrics": ["taylor_abs", "obd"]}, esa={"pruning": {"scores": ["wanda"]}})
    copy = 4.0 * LLAMA.parameters
    assert told("critical_rankings", own, shard="1-of-1").extra_bytes == 12 * copy
    assert told("critical_rankings_shard", own).extra_bytes == 6 * copy  # one of two
    assert told("esa_pruning_measure", own).extra_bytes == 5 * copy
    assert told("esa_bit_level_measure", own).extra_bytes == 3 * copy


def test_the_reference_mode_runs_a_sequence_for_each_input():
    found = told("exp12_measure", settings(probe={"mode": "reference"}))
    assert found.forwards >= found.evaluated
    assert all(each.rows == 1 for each in found.passes)


def test_parameters_are_those_of_the_models():
    """Counted by transformers (manifest.json): final norms and learned positions are left out, below 2 percent."""
    counted = {"llama": 1344640, "gpt2": 1137408, "mamba": 1015168}
    for name, parameters in counted.items():
        assert shape.from_config(shape.EMBEDDED[name]).parameters == pytest.approx(parameters, rel=0.02)


def test_training_steps_and_configs_are_those_of_the_recipes():
    embedded = pytest.importorskip("tremor.models.embedded")
    for name, recipe in embedded.RECIPES.items():
        assert captures.STEPS[name] == recipe.schedule.steps
        real = {**recipe.config().to_dict(), "vocab_size": recipe.vocabulary}
        assert shape.from_config(real).parameters == shape.from_config(shape.EMBEDDED[name]).parameters


def test_llama_8b_has_eight_billion_parameters():
    """Its published number: 8,030,261,248; the final norm's 4096 are left out."""
    config = {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
    }  # fmt: skip
    assert shape.from_config(config).parameters == 8_030_261_248 - 4096


def test_a_config_without_a_width_is_refused():
    with pytest.raises(ModelError, match="hidden_size"):
        shape.from_config({"model_type": "llama", "num_hidden_layers": 2, "vocab_size": 8})


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelError, match="fetch it first"):
        shape.read(str(tmp_path), {"source": "hub"})


def test_the_price_is_start_and_calls_and_operations():
    """By hand: 10 forwards of 4 layers, one row of one position each, where overhead exceeds nothing else."""
    tiny = work.Work("model", (work.Pass(calls=10),))
    cost = work.price(tiny, LLAMA, RATES)
    flops = 10 * 4 * (2 * LLAMA.block + 4 * 128 * 1.0)
    reading = 10 * 4 * LLAMA.block * 4 / RATES.bandwidth
    assert cost.flops == pytest.approx(flops, rel=1e-3)
    loading = LLAMA.weights("float32") / work.LOADING
    assert cost.seconds == pytest.approx(4.5 + loading + 10 * 4 * 3e-4 + max(flops / 1e11, reading), rel=1e-3)


def test_a_backward_is_told_as_two_forwards():
    both = work.Pass(calls=1, rows=3, tokens=5, backwards=1)
    assert both.flops(LLAMA) == 3 * work.Pass(calls=1, rows=3, tokens=5).flops(LLAMA)


def test_costs_add_but_memory_is_the_largest():
    found = work.total([work.Cost(jobs=1, memory=5, seconds=1), work.Cost(jobs=2, memory=3, seconds=2)])
    assert (found.jobs, found.memory, found.seconds) == (3, 5, 3)


def test_a_target_needs_its_ancestors_only():
    jobs = [
        Job("a", {}, (), ("1",), 0), Job("b", {}, ("1",), ("2",), 0), Job("c", {}, ("1",), ("3",), 0),
        Job("d", {}, ("2", "there already"), ("4",), 0),
    ]  # fmt: skip
    assert [job.rule for job in plan.needed(jobs, "4")] == ["a", "b", "d"]
    assert [job.rule for job in plan.needed(jobs, "c")] == ["a", "c"]
    assert plan.needed(jobs, "finished.csv") == []


def test_of_snakemakes_words_our_own_sentence_is_left():
    text = "Error:\n  ModelError: model folder no/such does not exist; check the path\nWildcards:\n  model=tiny"
    assert plan._own_message(text) == "model folder no/such does not exist; check the path"
    assert plan._own_message("Error:\n  KeyError: 'x'\nOSError: disk") is None


def test_the_table_has_a_row_for_each_target_and_the_sum():
    cost = work.Cost(jobs=2, seconds=3.4, flops=1.5e9, memory=5e8, disk=1e5)
    found = report.Estimate({"a.csv": cost}, cost, {"exp12_measure": cost}, RATES)
    assert [row[0] for row in report.rows(found)] == ["a.csv", "everything together"]
    assert [row[0] for row in report.rows(found, by_rule=True)] == ["exp12_measure", "everything together"]
    assert all(len(row) == len(report.HEADER) for row in report.rows(found))
    assert report.document(found)["rates"]["svd"] == RATES.svd


def test_events_become_jobs():
    """A dry run's event, with a resource that is not known yet."""
    events = plan._Events()
    from snakemake_interface_logger_plugins.common import LogEvent

    said = {
        "jobid": 1,
        "rule_name": "exp12_measure",
        "wildcards": {"model": "m"},
        "input": ["i"],
        "output": ["o"],
        "local": False,
    }
    for number, gpu in enumerate((1, "<TBD>")):
        events.emit(SimpleNamespace(**{**said, "jobid": number}, event=LogEvent.JOB_INFO, resources={"gpu": gpu}))
    events.emit(SimpleNamespace(event=LogEvent.PROGRESS))
    assert [job.gpu for job in events.jobs.values()] == [1, 0]
    assert events.jobs[0].model == "m"


def test_the_tables_of_the_page_are_those_of_the_cost_table():
    from tremor.estimate import scaling

    text = scaling.PAGE.read_text(encoding="utf-8")
    assert scaling.page(text) == text, "run: python -m tremor.estimate.scaling"


def test_a_page_without_markers_is_refused():
    from tremor.estimate import scaling

    with pytest.raises(ValueError, match="markers"):
        scaling.page("# nothing")


def test_large_models_need_the_cards_that_their_weights_say():
    from tremor.estimate import scaling

    found = scaling.shapes()
    # Published: 70.6 and 405.9 thousand million.
    assert found["70B"].parameters == pytest.approx(70.55e9, rel=0.001)
    assert found["405B"].parameters == pytest.approx(405.85e9, rel=0.001)
    assert scaling.gpus(found["70B"].weights("bfloat16")) == 2
    assert scaling.gpus(1.0) == 1
