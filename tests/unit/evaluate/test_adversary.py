"""Attacks on the input: the loss that is meant, boxes that hold, and edits checked against trying them all."""

import numpy as np
import pytest
import torch

from tremor.evaluate import adversary, token_attack
from tremor.evaluate.adversary import Box, Victim

TEXT, ANSWER = "The capital of France is", " Paris"


@pytest.fixture(scope="module")
def victim(loaded_model):
    return Victim(loaded_model("llama"), answer_tokens=3)


@pytest.fixture(scope="module")
def question(victim):
    start = TEXT.index("France")
    return victim.question(TEXT, ANSWER, protected=(start, start + 6))


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba"])
def test_the_loss_is_the_nll_of_the_reference(loaded_model, family):
    """Against one plain forward of the whole sentence, token by token; the originals' loss was not shifted."""
    victim = Victim(loaded_model(family), answer_tokens=2)
    question = victim.question(TEXT, " Paris, of course")
    ids = np.concatenate([question.ids, question.reference])
    with torch.no_grad():
        logits = victim.loaded.model(input_ids=torch.from_numpy(ids)[None]).logits[0].double()
    slow = [-float(torch.log_softmax(logits[i - 1], -1)[ids[i]]) for i in range(len(question.ids), len(ids))]
    # Embeddings are looked up and given to the model, which may add in another order: float32 logits of size 1.
    assert victim.nll([question.ids], question.reference)[0] == pytest.approx(np.mean(slow), rel=1e-5)


def test_greedy_answers_against_a_plain_loop(victim, question):
    ids = [int(i) for i in question.ids]
    for _ in range(3):
        with torch.no_grad():
            ids.append(int(victim.loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    found = victim.read(victim.embed(question.ids)[None], question.reference)
    assert found.answers[0].tolist() == ids[-3:]


def test_the_gradient_is_that_of_the_loss(victim, question):
    point = victim.embed(question.ids)
    _, gradient = victim.gradient(point, question.reference)
    direction = gradient / gradient.norm()
    step = 1e-2
    with torch.no_grad():
        ahead, behind = (
            float(victim.losses((point + s * direction)[None], question.reference)[0]) for s in (step, -step)
        )
    # Central difference: error of order step^2, and 1e-7 / step of rounding.
    assert (ahead - behind) / (2 * step) == pytest.approx(float(gradient.norm()), rel=2e-2)


def test_fgsm_beats_a_step_along_the_mean_logit(victim, question):
    """The originals maximised the mean of all logits, on which no probability depends."""
    point = victim.embed(question.ids)
    radius = 0.1 * float(point.square().mean().sqrt())
    moved = adversary.fgsm(victim, question, point, radius)
    free = point.clone().requires_grad_(True)
    (mean,) = torch.autograd.grad(victim.loaded.model(inputs_embeds=free[None]).logits.mean(), free)
    wrong = point + radius * mean.sign()
    with torch.no_grad():
        clean, attacked, misled = victim.losses(torch.stack([point, moved, wrong]), question.reference).tolist()
    assert attacked > clean
    assert attacked - clean > 2 * abs(misled - clean)


def test_the_loss_does_not_see_a_common_shift_of_logits(victim, question):
    head = victim.loaded.model.lm_head
    before = victim.nll([question.ids], question.reference)[0]
    handle = head.register_forward_hook(lambda module, args, output: output + 7.0)
    try:
        shifted = victim.nll([question.ids], question.reference)[0]
    finally:
        handle.remove()
    # Adding 7 rounds float32 logits at 4.8e-7.
    assert shifted == pytest.approx(before, abs=5e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("radius", [1e-6, 3e-3, 0.4])
def test_a_box_holds_after_rounding_to_the_models_type(dtype, radius):
    generator = torch.Generator().manual_seed(0)
    point = torch.randn(50, 40, generator=generator).to(dtype)
    point[0, :20], point[1, :20] = 0.0, -0.0
    box = Box.around(point, radius)
    moved = box.project((point.double() + 3 * radius * torch.randn(50, 40, generator=generator)).to(dtype))
    distance = (moved.double() - point.double()).abs()
    assert float(distance.max()) <= radius  # exactly: both are exact in float64
    assert bool((box.low <= point).all())
    assert bool((point <= box.high).all())
    # The bounds are the outermost numbers of the type: the next one is outside.
    beyond = torch.nextafter(box.high, torch.tensor(torch.inf, dtype=dtype)) if dtype != torch.float16 else None
    if beyond is not None:
        assert bool((beyond.double() - point.double() > radius).all())


def test_pgd_stays_in_the_box_and_is_no_weaker_than_one_step(victim, question):
    point = victim.embed(question.ids)
    radius = 0.2 * float(point.square().mean().sqrt())
    rng = np.random.default_rng(0)
    moved = adversary.pgd(victim, question, point, radius, steps=8, step_size=0.25, rng=rng)
    assert float((moved.double() - point.double()).abs().max()) <= radius
    with torch.no_grad():
        one = adversary.fgsm(victim, question, point, radius)
        clean, single, many = victim.losses(torch.stack([point, one, moved]), question.reference).tolist()
    assert many > clean
    assert many >= 0.95 * single  # on a nearly linear model both reach the corner of the box


def test_random_changes_have_the_size_of_the_attack(victim, question):
    point = victim.embed(question.ids)
    radius = 0.05
    moved = adversary.fgsm(victim, question, point, radius)
    random = adversary.same_size(point, moved, 6, np.random.default_rng(0), radius)
    attack = (moved.double() - point.double()).abs()
    for row in random:
        mine = (row.double() - point.double()).abs()
        # One rounding of a float32 of size < 1.
        assert float((mine - attack).abs().max()) < 1.2e-7
        assert float(mine.max()) <= radius
    assert not torch.equal(random[0], random[1])


def test_subjects_are_protected(victim, question):
    subject = set(range(len(question.ids))) - set(question.free)
    spelt = victim.loaded.tokenizer.decode([int(question.ids[i]) for i in sorted(subject)])
    assert "France" in spelt
    allowed = token_attack.usable_tokens(victim.loaded)
    for kind in ("hotflip", "token_swap"):
        worst, made = token_attack.token_attack(victim, question, kind, 2, candidates=4, allowed=allowed)
        random = token_attack.random_tokens(question, kind, made, allowed=allowed, rng=np.random.default_rng(0))
        for ids in (worst, random):
            changed = set(np.flatnonzero(ids != question.ids).tolist())
            assert changed
            assert changed <= set(question.free)
            assert len(changed) == made * (1 if kind == "hotflip" else 2)


def test_one_replaced_token_is_the_worst_of_all(victim, question):
    """With as many candidates as there are edits, the attack is a full search; here it is done by hand."""
    allowed = token_attack.usable_tokens(victim.loaded)[::8]
    rows = []
    for place in question.free:
        for token in allowed:
            if token != question.ids[place]:
                ids = question.ids.copy()
                ids[place] = token
                rows.append(ids)
    losses = victim.nll(rows, question.reference)
    worst, made = token_attack.token_attack(victim, question, "hotflip", 1, candidates=len(rows), allowed=allowed)
    assert made == 1
    assert victim.nll([worst], question.reference)[0] == pytest.approx(losses.max(), rel=1e-5)
    few, _ = token_attack.token_attack(victim, question, "hotflip", 1, candidates=8, allowed=allowed)
    # The gradient finds more than the mean edit does.
    assert victim.nll([few], question.reference)[0] > np.mean(losses)


def test_one_exchanged_pair_is_the_worst_of_all(victim, question):
    best = -np.inf
    for n, i in enumerate(question.free):
        for j in question.free[n + 1 :]:
            ids = question.ids.copy()
            ids[[i, j]] = ids[[j, i]]
            best = max(best, victim.nll([ids], question.reference)[0])
    worst, _ = token_attack.token_attack(victim, question, "token_swap", 1, candidates=10**6, allowed=np.arange(1))
    assert victim.nll([worst], question.reference)[0] == pytest.approx(best, rel=1e-5)


def test_rows_of_different_length_keep_their_places(victim, question):
    short = question.ids[:-1]
    both = victim.nll([question.ids, short, question.ids], question.reference)
    assert both[0] == pytest.approx(both[2], rel=1e-6)
    assert both[1] == pytest.approx(victim.nll([short], question.reference)[0], rel=1e-6)


def test_without_an_answer_the_reference_is_the_models_own(victim):
    question = victim.question("In five years, the world will", None)
    assert len(question.reference) == 3
    found = victim.read(victim.embed(question.ids)[None], question.reference)
    assert found.answers[0].tolist() == question.reference.tolist()
