"""Fine-tuning: resumed equals undisturbed bit for bit, padding does not count, an empty file is refused."""

import json

import pytest
import torch
from torch.nn import functional as F

from tremor.errors import ConfigError, NumericsError
from tremor.models import finetune
from tremor.models.finetune import Plan
from tremor.models.loader import load
from tremor.models.training import repeatable

DOCUMENTS = ["The capital of France is Paris.", "Water turns to ice.", "The old man looked at the sea.", "No."]
PLAN = Plan(steps=6, learning_rate=1e-3, warmup=2, batch=3, length=24, weight_decay=0.1, clip=1.0, checkpoint=2, seed=5)


class Killed(Exception):
    """Stands for a job that was killed."""


def run(loaded, work, plan=PLAN, stop=None):
    def after(step):
        if step == stop:
            raise Killed

    with repeatable(seed=plan.seed, threads=1):
        return finetune.tune(loaded, DOCUMENTS, plan, work=work, key={"model": "x"}, after=after)


def same(first, second):
    one, two = first.model.state_dict(), second.model.state_dict()
    return all(torch.equal(one[name].view(torch.int32), two[name].view(torch.int32)) for name in one)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_resumed_is_undisturbed_bit_for_bit(family, private_model, tmp_path):
    """gpt2 has dropout and a tied matrix: the draws of a step must not depend on where the run began."""
    whole, broken = private_model(family), private_model(family)
    straight = run(whole, tmp_path / "a")
    with pytest.raises(Killed):
        run(broken, tmp_path / "b", stop=5)
    fresh = private_model(family)
    resumed = run(fresh, tmp_path / "b")
    assert resumed.resumed == 4
    assert resumed.losses == straight.losses
    assert resumed.norms == straight.norms
    assert same(whole, fresh)
    assert not fresh.model.training
    assert not any(p.requires_grad for p in fresh.model.parameters())
    assert {p.suffix for p in (tmp_path / "b").iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize("damage", ["other", "truncated"])
def test_a_checkpoint_of_another_run_or_a_damaged_one_is_not_used(damage, private_model, tmp_path):
    with pytest.raises(Killed):
        run(private_model("llama"), tmp_path / "w", stop=3)
    if damage == "truncated":
        path = tmp_path / "w" / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:-4])
    plan = PLAN if damage == "truncated" else Plan(**{**PLAN.__dict__, "seed": 6})
    found = run(private_model("llama"), tmp_path / "w", plan)
    assert found.resumed == 0
    assert len(found.losses) == PLAN.steps


def test_loss_is_that_of_the_rows_alone_whatever_the_pad_token(private_model):
    """The ancestor trained on padding, and told it by an id that real tokens have."""
    loaded = private_model("llama")
    loaded.tokenizer.pad_token = loaded.tokenizer.eos_token
    rows = finetune.rows_of(loaded, DOCUMENTS, 12)
    total, count = 0.0, 0
    for row in rows:
        logits = loaded.model(input_ids=torch.tensor([row])).logits[0, :-1]
        total += float(F.cross_entropy(logits.double(), torch.tensor(row[1:]), reduction="sum"))
        count += len(row) - 1
    assert any(row[-1] == loaded.tokenizer.eos_token_id for row in rows)
    # float32 sums over some dozens of tokens.
    assert float(finetune.loss_of(loaded, rows)) == pytest.approx(total / count, rel=1e-5)


def test_rows_hold_every_token_once(private_model):
    loaded = private_model("llama")
    rows = finetune.rows_of(loaded, DOCUMENTS, 24)
    wanted = [i for d in DOCUMENTS for i in [*loaded.tokenizer(d)["input_ids"], loaded.tokenizer.eos_token_id]]
    assert [i for row in rows for i in row] == wanted
    assert max(map(len, rows)) <= 24


def test_each_epoch_reads_every_row_once_in_an_order_of_its_own():
    rows = [[i] for i in range(5)]
    plan = Plan(**{**PLAN.__dict__, "batch": 5})
    orders = [[row[0] for row in finetune.step_rows(rows, plan, step)] for step in range(3)]
    assert all(sorted(order) == list(range(5)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_first_step_is_adamws_by_hand(private_model, tmp_path):
    """One step: weight decay, then rate * g / (|g| + eps), since both moments are those of one gradient."""
    loaded, other = private_model("llama"), private_model("llama")
    plan = Plan(**{**PLAN.__dict__, "steps": 1, "warmup": 0, "clip": 1e9, "batch": 1})
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    run(loaded, tmp_path, plan)
    other.model.requires_grad_(True)
    finetune.loss_of(other, finetune.step_rows(finetune.rows_of(other, DOCUMENTS, 24), plan, 0)).backward()
    for (name, after), (_, source) in zip(loaded.model.named_parameters(), other.model.named_parameters(), strict=True):
        decay = plan.weight_decay if after.ndim >= 2 else 0.0
        gradient = source.grad if source.grad is not None else torch.zeros_like(source)
        wanted = before[name] * (1 - plan.learning_rate * decay)
        wanted = wanted - plan.learning_rate * gradient / (gradient.abs() + 1e-8)
        # Step of 1e-3 in float32; bias corrections round by some ulps, more where |g| is near eps.
        torch.testing.assert_close(after.detach(), wanted, rtol=1e-5, atol=2e-6)


def test_what_is_saved_loads_as_an_ordinary_model(private_model, tmp_path):
    loaded = private_model("gpt2")
    run(loaded, tmp_path / "w")
    finetune.save(loaded, tmp_path / "model", dtype=torch.float32)
    again = load(tmp_path / "model", device="cpu")
    assert same(loaded, again)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == "gpt2"
    assert not list((tmp_path / "model").glob("*.bin"))


@pytest.mark.parametrize("content", [b"", b"\n  \n", b"\xff\xfe"])
def test_a_file_without_text_is_refused(content, tmp_path):
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=r"empty|UTF-8"):
        finetune.read_lines(tmp_path / "text.txt")


def test_a_diverging_training_stops(private_model, tmp_path):
    loaded = private_model("llama")
    with torch.no_grad():
        loaded.anatomy.embedding.weight[:] = float("inf")
    with pytest.raises(NumericsError, match="learning_rate"):
        run(loaded, tmp_path)
