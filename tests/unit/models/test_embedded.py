"""Embedded models: repeatable training, honest recall, a folder that is whole or absent."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tremor.errors import ConfigError, NumericsError, PlatformError
from tremor.models import corpus, embedded
from tremor.models.scan import selective_scan, training_scan
from tremor.models.tokenizer import as_pretrained, train_bpe
from tremor.models.training import (
    Schedule,
    batches,
    fit,
    next_token_probability,
    pack,
    recalled,
    repeatable,
    text_nll,
)

MICRO = Schedule(steps=3, batch=4, learning_rate=1e-3, packed_every=2, packed_rows=1, length=24, warmup=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Resources cut to a few facts and lines, so that what is measured after a micro-training is cheap."""
    folder = tmp_path_factory.mktemp("resources")
    for split in ("train", "heldout"):
        name = f"facts/templates.{split}.tsv"
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text((corpus.RESOURCES / name).read_text(encoding="utf-8"), encoding="utf-8")
        text = folder / "text" / split
        text.mkdir(parents=True)
        for source in (corpus.RESOURCES / "text" / split).glob("*.txt"):
            lines = source.read_text(encoding="utf-8").splitlines()[: 40 if split == "train" else 1]
            (text / source.name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for code, relation in corpus.RELATIONS.items():
        name = f"facts/{code}_{relation}.tsv"
        lines = (corpus.RESOURCES / name).read_text(encoding="utf-8").splitlines()
        france = [line for line in lines[2:] if code == "P36" and line.startswith("France\t")]
        (folder / name).write_text("\n".join([*lines[:2], *france]) + "\n", encoding="utf-8")
    return folder


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _micro(architecture: str) -> embedded.Recipe:
    return dataclasses.replace(embedded.RECIPES[architecture], schedule=MICRO, vocabulary=400)


def _train(architecture: str, folder: Path, resources: Path, *, seed: int = 0) -> embedded.TrainingReport:
    return embedded.train(
        architecture,
        folder,
        seed=seed,
        min_recall=0.0,
        min_probability=0.0,
        recipe=_micro(architecture),
        resources=resources,
    )


@pytest.mark.parametrize("architecture", list(embedded.RECIPES))
def test_two_trainings_write_identical_files(architecture: str, small: Path, tmp_path: Path) -> None:
    first = _train(architecture, tmp_path / "a", small)
    second = _train(architecture, tmp_path / "b", small)
    assert first == second
    digests = _digests(tmp_path / "a")
    assert digests == _digests(tmp_path / "b")
    assert set(digests) >= {
        "model.safetensors", "config.json", "generation_config.json", "tokenizer.json",
        "tokenizer_config.json", "training.json",
    }  # fmt: skip
    assert json.loads((tmp_path / "a" / "training.json").read_text()) == dataclasses.asdict(first)


@pytest.mark.parametrize("architecture", list(embedded.RECIPES))
def test_recipe_has_one_to_two_million_parameters_and_the_ties_it_names(architecture: str) -> None:
    tokenizer = as_pretrained(train_bpe(corpus.training_documents(0)), context=embedded.CONTEXT)
    model = embedded.build(embedded.RECIPES[architecture], tokenizer)
    assert 1_000_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 2_000_000
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == (architecture != "llama")


def test_saved_folder_loads_offline_and_gives_the_reported_numbers(small: Path, tmp_path: Path) -> None:
    report = _train("llama", tmp_path / "model", small)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model", local_files_only=True)
    with repeatable(seed=0, threads=report.threads):
        asked = corpus.prompt(embedded.FRANCE, corpus.CAPITAL_TEMPLATE)
        assert next_token_probability(model, tokenizer, asked)[0] == report.paris_probability
        texts = [passage.text for passage in corpus.passages("heldout", resources=small)]
        nll = text_nll(model, tokenizer, texts, length=embedded.CONTEXT)
    assert nll == report.heldout_text_nll
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 2
    assert model.config.bos_token_id == tokenizer.bos_token_id == 1


def test_training_that_misses_names_what_and_leaves_nothing(small: Path, tmp_path: Path) -> None:
    with pytest.raises(NumericsError, match=r"gpt2, seed 0, after 3 steps: capital recall 0\.\d+ < 0\.8; p\(\" Paris"):
        embedded.train("gpt2", tmp_path / "model", recipe=_micro("gpt2"), resources=small)
    assert list(tmp_path.iterdir()) == []


def test_another_seed_gives_other_weights_and_a_failure_keeps_the_folder_that_was_there(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _train("gpt2", tmp_path / "model", small)
    before = _digests(tmp_path / "model")
    other = _train("gpt2", tmp_path / "other", small, seed=1)
    assert other.seed == 1
    assert _digests(tmp_path / "other")["model.safetensors"] != before["model.safetensors"]
    shutil.rmtree(tmp_path / "other")
    with pytest.raises(NumericsError, match="nothing was written"):
        embedded.train("gpt2", tmp_path / "model", recipe=_micro("gpt2"), resources=small)
    assert _digests(tmp_path / "model") == before

    def disk_is_full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    # The weights are written by then: the failure comes in the middle of the folder.
    monkeypatch.setattr(embedded.json, "dumps", disk_is_full)
    with pytest.raises(OSError, match="No space left"):
        _train("gpt2", tmp_path / "model", small, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert _digests(tmp_path / "model") == before


def test_training_again_replaces_the_folder(small: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stale.txt").write_text("old", encoding="utf-8")
    _train("gpt2", tmp_path / "model", small)
    assert not (tmp_path / "model" / "stale.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no embedded model 'bert': there are llama, gpt2, mamba"):
        embedded.train("bert", tmp_path / "model")


def test_recalled_agrees_with_greedy_generation(small: Path, tmp_path: Path) -> None:
    """A model overfitted on two sentences knows one answer of several tokens and not another."""
    tokenizer = as_pretrained(train_bpe(corpus.training_documents(0, resources=small), vocabulary=400), context=64)
    sentences = ["The capital of Chile is Santiago.", "The capital of France is Paris."]
    known = corpus.prompt(corpus.Fact("P36", "Chile", "Santiago"), corpus.CAPITAL_TEMPLATE)
    wrong = corpus.prompt(corpus.Fact("P36", "France", "Lyon"), corpus.CAPITAL_TEMPLATE)
    plan = Schedule(steps=40, batch=2, learning_rate=3e-3, packed_every=50, warmup=2)
    with repeatable(seed=0, threads=1):
        model = embedded.build(_micro("llama"), tokenizer)
        encoded = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in sentences]
        fit(model, encoded, plan, seed=0, pad=tokenizer.pad_token_id)
    assert recalled(model, tokenizer, [known, wrong, known], batch=1) == [True, False, True]
    ids = torch.tensor([tokenizer(known.text)["input_ids"]])
    answer = tokenizer(known.text + known.answer)["input_ids"][ids.shape[1] :]
    assert len(answer) > 1
    written = model.generate(ids, max_new_tokens=len(answer), do_sample=False, pad_token_id=0)
    assert written[0, ids.shape[1] :].tolist() == answer


def test_diverged_training_is_reported(small: Path, tmp_path: Path) -> None:
    plan = dataclasses.replace(MICRO, learning_rate=float("inf"))
    recipe = dataclasses.replace(_micro("gpt2"), schedule=plan)
    with pytest.raises(NumericsError, match=r"the loss is nan at step 1"):
        embedded.train("gpt2", tmp_path / "model", recipe=recipe, resources=small)
    assert list(tmp_path.iterdir()) == []


def test_pack_keeps_every_token_and_begins_rows_at_documents() -> None:
    documents = [[1, 5, 2], [1, 6, 7, 2], [1, *range(10, 19), 2], [1, 2]]
    rows = pack(documents, length=7, pad=0)
    assert rows.tolist() == [[1, 5, 2, 1, 6, 7, 2], [1, 10, 11, 12, 13, 14, 15], [16, 17, 18, 2, 1, 2, 0]]


def test_batches_pass_over_every_document_once_an_epoch() -> None:
    generator = random.Random(0)
    documents = [[1, *[3 + n] * generator.randint(1, 9), 2] for n in range(40)]
    plan = dataclasses.replace(MICRO, packed_every=1000, steps=10)
    seen = [
        tuple(token for token in row if token)
        for ids in batches(documents, plan, seed=5, pad=0)
        for row in ids.tolist()
    ]
    assert sorted(seen) == sorted(tuple(one) for one in documents)
    again = [ids.tolist() for ids in islice(batches(documents, MICRO, seed=5, pad=0), 3)]
    assert again == [ids.tolist() for ids in batches(documents, MICRO, seed=5, pad=0)]
    assert len(again[1]) == MICRO.packed_rows
    assert len(again[1][0]) == MICRO.length


def test_schedule_warms_up_and_decays_to_its_fraction() -> None:
    plan = Schedule(steps=100, learning_rate=1.0, warmup=10, final_fraction=0.1)
    assert plan.rate(0) == 0.1
    assert plan.rate(9) == 1.0
    assert plan.rate(10) == 1.0
    # One step short of the end, 1 - cos has lost less than (pi/90)^2 of its range.
    assert plan.rate(99) == pytest.approx(0.1, abs=(3.15 / 90) ** 2)


def test_repeatable_restores_the_settings() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled()  # another test's session may have left it on
    with repeatable(seed=1, threads=1):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == 1
        torch.rand(3)
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.equal(torch.random.get_rng_state(), state)


def test_training_scan_equals_the_reference_of_transformers() -> None:
    """Outputs and gradients agree to rounding with the scan that inference uses."""
    from transformers.models.mamba import modeling_mamba

    reference = modeling_mamba.mamba_selective_scan
    generator = torch.Generator().manual_seed(0)
    wide, narrow = (2, 6, 9), (2, 4, 9)
    shapes = {
        "hidden_states": wide, "dt": wide, "A": (6, 4), "B": narrow, "C": narrow, "D": (6,), "z": wide,
        "delta_bias": (6,),
    }  # fmt: skip
    values = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    values["A"] = -values["A"].abs()
    results = []
    for scan in (reference, selective_scan):
        inputs = {name: value.clone().requires_grad_() for name, value in values.items()}
        output = scan(**inputs, delta_softplus=True)
        output.square().sum().backward()
        results.append([output.detach(), *(inputs[name].grad for name in shapes)])
    for ours, theirs in zip(results[1], results[0], strict=True):
        # float32 sums of at most 9 x 12 terms of order 1 to 100: a few hundred units in the last place.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    with training_scan():
        assert modeling_mamba.mamba_selective_scan is selective_scan
    assert modeling_mamba.mamba_selective_scan is reference


def test_training_scan_refuses_a_call_that_wants_a_cache() -> None:
    wide, narrow, vector = torch.ones(1, 2, 3), torch.ones(1, 4, 3), torch.ones(2)
    with pytest.raises(PlatformError, match="keeps no state"):
        selective_scan(wide, wide, -torch.ones(2, 4), narrow, narrow, vector, wide, vector, return_last_state=True)
