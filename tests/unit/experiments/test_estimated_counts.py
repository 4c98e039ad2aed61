"""Calls of the model as they were told before, against calls counted while the experiments run."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tremor import config as configuration
from tremor.estimate import costs, shape, situation
from tremor.estimate.plan import Job
from tremor.experiments import recordings
from tremor.graph import Graph
from tremor.record.questions import read_questions
from tremor.store.documents import read_json

from .conftest import ORIGIN, PROMPT, Chain

ROOT = Path(__file__).resolve().parents[3]
QUESTIONS, TOKENS = 2, 6


@contextmanager
def counted(session, monkeypatch):
    """Forward calls of the model's base, rows they ran, and sweeps back."""
    found = SimpleNamespace(forwards=0, rows=0, backwards=0)

    def forward(module, arguments, named, output):
        given = next(
            each for each in (named.get("inputs_embeds"), named.get("input_ids"), *arguments) if each is not None
        )
        found.forwards += 1
        found.rows += given.shape[0]

    real = torch.autograd.grad

    def grad(*arguments, **named):
        found.backwards += 1
        return real(*arguments, **named)

    handle = session.loaded.anatomy.base.register_forward_hook(forward, with_kwargs=True)
    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", grad)
        try:
            yield found
        finally:
            handle.remove()


@pytest.fixture
def told(open_tiny):
    """(rule, config, outputs, wildcards) -> the work that the cost table tells for the tiny Llama."""
    model = open_tiny().loaded.model.config.to_dict()

    def tell(rule, raw, outputs=("x",), **wildcards):
        own = {
            "models": {"tiny": {"source": "path", "path": "tiny"}},
            "prompts": {"capital": {"text": PROMPT["text"]}},
            "select": {"models": ["tiny"], "prompts": ["capital"]},
        }
        graph = Graph(configuration.merged(configuration.Config().model_dump(mode="json"), {**own, **raw}), home=ROOT)
        job = Job(rule, {"model": "tiny", "prompt": "capital", **wildcards}, (), tuple(outputs), gpu=1)
        return costs.entry(rule)(situation.Situation(job, graph, shape.from_config(model)))

    return tell


def test_a_spectrum_takes_the_calls_that_were_told(chain: Chain, told, tmp_path, monkeypatch):
    with counted(chain.session, monkeypatch) as found:
        chain.spectrum(tmp_path)
    work = told("spectrum_measure", {"probe": {"batch_size": 16}})
    assert found.backwards == work.backwards
    # Base point, prefix and the row itself; a call more or less is a detail of the code.
    assert abs(found.forwards - work.forwards) <= 2


def test_a_boundary_takes_about_the_calls_that_were_told(chain: Chain, told, tmp_path, monkeypatch):
    source = chain.spectrum(tmp_path)
    with counted(chain.session, monkeypatch) as found:
        chain.boundary(tmp_path, source, "angles", angles=64)
    statistics = read_json(tmp_path / "exp12.json")
    # How many inputs a ray has is the model's affair (2 with random weights, 4 to 9 with trained ones): given here.
    monkeypatch.setattr(situation, "RAY_INPUTS", statistics["mean_evaluations"])
    settings = {"probe": {"batch_size": 16}, "exp12": {"angles": 64, "s_max": 1e-4}}
    work = told("exp12_measure", settings, arithmetic="float64")
    assert work.evaluated == pytest.approx(64 * statistics["mean_evaluations"])
    # Batches that are not full at the search's end, and inputs that rays share, are told as a constant.
    assert 1 / 2 < work.forwards / found.forwards < 2
    assert 1 / 2 < sum(each.calls * each.rows for each in work.passes) / found.rows < 2


@pytest.mark.parametrize("decode", ["cached", "uncached"])
def test_a_recording_takes_about_the_calls_that_were_told(open_tiny, told, tmp_path, monkeypatch, decode):
    session = open_tiny()
    folder = tmp_path / "results"
    folder.mkdir()
    asked = read_questions(ROOT / "resources/questions/default.tsv", "all")[:QUESTIONS]
    names = [question.name for question in asked]
    settings = {"names": names, "tokens": TOKENS, "taps": "final", "tap_questions": "all", "tap_steps": "all"}
    files = [folder / f"q{number:02d}.h5" for number in range(1, QUESTIONS + 1)]
    with counted(session, monkeypatch) as found:
        recordings.measure(
            session,
            questions=ROOT / "resources/questions/default.tsv",
            settings=settings,
            decode=decode,
            batch=1,
            recordings=files,
            provenance=ORIGIN,
        )
    raw = {"recorder": settings, "platforms": {"here": {"decode": decode}}, "pairs": {}}
    work = told("record", raw, files, platform="here")
    assert work.evaluated == QUESTIONS * TOKENS  # random weights do not end a text
    assert work.backwards == found.backwards == 0
    # The trial of the decoder is told as four calls a question.
    assert abs(found.forwards - work.forwards) <= 4 * QUESTIONS
