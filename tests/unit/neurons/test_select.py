"""Selection: a planted neuron, oracles for every selector, one shared pass, controls and keys."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from planted import CARRIERS, LAYER, LOUD, Planted, plant
from tremor.errors import ConfigError, ModelError, NumericsError
from tremor.evaluate import facts
from tremor.evaluate.relations import Sentence
from tremor.neurons import select, sites
from tremor.neurons.collect import collect
from tremor.statistics.ablation import against_controls
from tremor.weights.activations import ablation, intervened

OPTIONS = select.Options(steps=32, candidates=8, sample=50)
ALL = [name for name in select.SELECTORS if name != "decay"]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted") / "model")


@pytest.fixture(scope="module")
def place(planted: Planted) -> sites.Site:
    return sites.site(planted.loaded, "mlp_inner", LAYER)


@pytest.fixture(scope="module")
def chosen(planted: Planted, place: sites.Site) -> select.Selection:
    texts = facts.tokenise(planted.loaded, planted.sentences)
    return select.Selection(planted.loaded, texts, [place], ALL, OPTIONS)


@pytest.mark.parametrize("relation", ["A", "B"])
@pytest.mark.parametrize("selector", ["gradient", "integrated", "effect"])
def test_the_carrier_of_a_relation_is_found(selector, relation, chosen, place):
    scores = chosen.scores(selector, place, relation)
    assert select.top(scores, 1).tolist() == [CARRIERS[relation]]
    finite = scores[np.isfinite(scores)]
    # Nothing else supports the answers: the next unit's score is a tenth at most.
    assert np.sort(finite)[-2] < 0.1 * scores[CARRIERS[relation]]


def test_variance_over_texts_finds_what_is_loud(chosen, place):
    """D-D3: the original's selector finds scale, here of a unit that nobody reads."""
    assert select.top(chosen.scores("variance", place, "A"), 1).tolist() == [LOUD]


def test_its_ablation_erases_its_relation_and_no_other_and_random_units_do_not(planted, chosen, place):
    """D-D12: an effect is judged beside twenty random choices of as many units."""
    texts = chosen.texts
    clean = facts.evaluate(planted.loaded, texts)
    assert clean.recalled.all()

    def answers(units):
        change = {place.tap: ablation(place.tap, [int(u) for u in units])}
        return facts.evaluate(planted.loaded, texts, changes=change)

    changed = answers([CARRIERS["A"]])
    own, other = texts.where(relation="A"), texts.where(relation="B")
    assert not changed.recalled[own].any()
    assert (clean.answer_logprob - changed.answer_logprob)[own].min() > 2.0
    # The unit is silent where its cue is not: gelu of a very negative number.
    np.testing.assert_allclose(changed.answer_logprob[other], clean.answer_logprob[other], atol=1e-5)
    draws = select.controls(128, 1, 20, seed=0)
    assert not np.isin(draws, list(CARRIERS.values())).any()
    controls = [float((clean.answer_logprob - answers(u).answer_logprob)[own].mean()) for u in draws]
    effect = float((clean.answer_logprob - changed.answer_logprob)[own].mean())
    assert max(np.abs(controls)) < 1e-4
    assert against_controls(effect, controls, "c")["c_p"] == pytest.approx(1 / 21)


def test_variance_is_that_of_the_means_over_positions(chosen, planted, place):
    """Against a loop over texts, one at a time, without padding."""
    rows = chosen.texts.where(relation="B")
    means = []
    for row in rows:
        with planted.loaded.anatomy.record([place.tap]) as seen, torch.no_grad():
            planted.loaded.model(input_ids=torch.tensor([chosen.texts.ids[row]]), use_cache=False)
        means.append(seen[place.tap][0].double().mean(0).numpy())
    scores = chosen.scores("variance", place, "B")
    np.testing.assert_allclose(scores, np.var(means, axis=0), rtol=1e-4, atol=1e-6)
    reference = chosen.collected[place].reference
    assert len(reference.sample) >= 20


@pytest.mark.parametrize(("family", "kind"), [("gpt2", "output"), ("gpt2", "mlp_inner"), ("mamba", "delta")])
def test_the_gradient_is_the_derivative_of_the_answers(family, kind, loaded_model):
    """Activation times gradient against a central difference: the activation of one unit scaled by 1 +- h."""
    loaded = loaded_model(family, "float64" if family == "gpt2" else "float32")
    sentences = [Sentence("R", "train", f"{c} is {c}b.", (0, 1), (5, 7)) for c in "ACE"]
    texts = facts.tokenise(loaded, sentences)
    place = sites.site(loaded, kind, 0)
    found = collect(loaded, texts, [place], gradients=True, sample=50, seed=0)[place].attribution.sum(0)
    # Mamba's scan rounds to float32, so that the difference needs a wide step: truncation against rounding.
    h = 1e-4 if family == "gpt2" else 0.1
    for unit in np.argsort(-np.abs(found))[:3]:
        ends = []
        for sign in (1, -1):
            change = {place.tap: ablation(place.tap, [int(unit)], mode="scale", strength=1 + sign * h)}
            ends.append(facts.evaluate(loaded, texts, changes=change).answer_logprob.sum())
        slope = (ends[0] - ends[1]) / (2 * h)
        assert found[unit] == pytest.approx(slope, rel=1e-5 if family == "gpt2" else 5e-2, abs=1e-6)


def test_integrated_gradients_are_complete(chosen, place):
    """Their sum is what the answers lose without all units (Sundararajan et al. 2017), by the rule's error."""
    chosen.scores("integrated", place, "A")
    assert chosen.completeness[place, "A"] < 0.02


def test_effect_is_the_exact_ablation(chosen, planted, place):
    scores = chosen.scores("effect", place, "A")
    assert np.isfinite(scores).sum() == OPTIONS.candidates
    texts = chosen.texts.subset(chosen.texts.where(relation="A"))
    unit = CARRIERS["A"]
    lost = facts.evaluate(planted.loaded, texts).answer_logprob
    lost = lost - facts.evaluate(planted.loaded, texts, changes={place.tap: ablation(place.tap, [unit])}).answer_logprob
    assert scores[unit] == pytest.approx(lost.mean(), rel=1e-12)


def test_one_clean_pass_is_shared_by_all_selectors(planted, place):
    """Counted: the forwards of building the selection are the batches of the set, for however many selectors."""
    texts = facts.tokenise(planted.loaded, planted.sentences, batch_tokens=40)
    with _counted(planted.loaded.model) as calls:
        chosen = select.Selection(planted.loaded, texts, [place], ["variance", "gradient"], OPTIONS)
        for relation in ("A", "B"):
            for selector in ("variance", "gradient"):
                chosen.scores(selector, place, relation)
    assert len(calls) == len(texts.batches) > 1


class _counted:
    def __init__(self, model):
        self.model, self.calls = model, []

    def __enter__(self):
        self.handle = self.model.register_forward_pre_hook(lambda *_: self.calls.append(1))
        return self.calls

    def __exit__(self, *_):
        self.handle.remove()


def test_selection_changes_no_bit(planted, chosen):
    """Reading and differentiating adds zeros only."""
    with torch.no_grad():
        before = planted.loaded.model(input_ids=chosen.texts.batches[0].ids, use_cache=False).logits
    with _recording(planted, chosen) as after:
        assert torch.equal(before, after)


class _recording:
    def __init__(self, planted, chosen):
        self.planted, self.chosen = planted, chosen

    def __enter__(self):
        taps = {f"block.{k}.output": lambda t: t + torch.zeros_like(t) for k in (0, 1)}
        with intervened(self.planted.loaded.anatomy, taps), torch.no_grad():
            return self.planted.loaded.model(input_ids=self.chosen.texts.batches[0].ids, use_cache=False).logits

    def __exit__(self, *_):
        pass


def test_decay_and_delta_in_a_mamba_and_nowhere_else(loaded_model, chosen, place):
    """D-D1 and D-D2: true step sizes, selected and ablated at one tap; models without any refuse."""
    loaded = loaded_model("mamba")
    sentences = [Sentence("R", "train", f"{c} is {c}b.", (0, 1), (5, 7)) for c in "ACEF"]
    texts = facts.tokenise(loaded, sentences)
    delta = sites.site(loaded, "delta", 1)
    own = select.Selection(loaded, texts, [delta], ["variance", "decay"])
    width = loaded.anatomy.block_parts[1].mixer.intermediate_size
    assert own.scores("variance", delta, "R").shape == own.scores("decay", delta, "R").shape == (width,)
    clean = facts.evaluate(loaded, texts)
    units = [int(u) for u in select.top(own.scores("variance", delta, "R"), 3)]
    changed = facts.evaluate(loaded, texts, changes={delta.tap: ablation(delta.tap, units)})
    assert not np.array_equal(clean.nll_sum, changed.nll_sum)
    with pytest.raises(ConfigError, match="tap delta only"):
        chosen.scores("decay", place, "A")
    with pytest.raises(ModelError, match="no step size delta"):
        sites.site(loaded_model("gpt2"), "delta", 0)


def test_sites_name_the_same_place_in_every_architecture(loaded_model):
    mamba, gpt2 = loaded_model("mamba"), loaded_model("gpt2")
    for kind in ("output", "mixer", "mixer_inner"):
        assert sites.site(mamba, kind, 1).kind == sites.site(gpt2, kind, 1).kind
    assert sites.site(mamba, "mixer_inner", 0).tap == "block.0.mixer.out_proj.input"
    assert sites.site(gpt2, "mixer_inner", 0).tap == "block.0.attn.c_proj.input"
    assert sites.site(gpt2, "mlp_inner", 0).tap == "block.0.mlp.c_proj.input"
    assert sites.site(gpt2, "output", 0).start == 1
    assert sites.site(gpt2, "mlp", 0).start == 0
    for kind, layer, message in (("mlp", 0, "no mlp"), ("mlp_inner", 0, "no output"), ("output", 2, "layers 0 to 1"),
                                 ("rotary", 0, "unknown")):  # fmt: skip
        with pytest.raises(ModelError, match=message):
            sites.site(mamba, kind, layer)
    assert sites.layers(gpt2, [1, "middle", "last", 0]) == [("1", 1), ("0", 0)]
    assert [block for _, block in sites.layers(gpt2, "all")] == [0, 1]
    with pytest.raises(ModelError, match="7 does not exist"):
        sites.layers(gpt2, [7])


def test_there_are_no_made_up_neurons(planted, place, chosen):
    """D-D4: on any problem the original returned random or the first units."""
    texts = facts.tokenise(planted.loaded, planted.sentences[:1])
    single = select.Selection(planted.loaded, texts, [place], ["variance"])
    with pytest.raises(ConfigError, match="needs two texts"):
        single.scores("variance", place, "A")
    with pytest.raises(ConfigError, match="no text"):
        chosen.scores("gradient", place, "C")
    with pytest.raises(NumericsError, match="NaN"):
        select.top(np.array([1.0, np.nan]), 1)
    with pytest.raises(ConfigError, match="top_k is 3"):
        select.top(np.array([1.0, 2.0]), 3)
    with pytest.raises(ConfigError, match="unknown"):
        select.Selection(planted.loaded, texts, [place], ["random"])


def test_ties_go_to_the_first_unit_and_controls_are_seeded():
    assert select.top(np.array([1.0, 3.0, 3.0, 2.0]), 3).tolist() == [1, 2, 3]
    drawn = select.controls(50, 7, 20, seed=4)
    assert drawn.shape == (20, 7)
    assert all(len(set(row)) == 7 for row in drawn.tolist())
    assert np.array_equal(drawn, select.controls(50, 7, 20, seed=4))
    assert not np.array_equal(drawn, select.controls(50, 7, 20, seed=5))
    with pytest.raises(ConfigError, match="50 units"):
        select.controls(50, 51, 2, seed=0)


def _keys() -> Iterator[dict[str, object]]:
    base = {
        "weights": "w", "revision": None, "relation": "P36", "layer": 1, "tap": "output", "selector": "variance",
        "k": 10, "texts": "t", "options": {"steps": 16},
    }  # fmt: skip
    yield base
    for name, value in {
        **{n: "other" for n in base if n not in ("layer", "k", "options")},
        "layer": 2,
        "k": 11,
    }.items():
        yield {**base, name: value}
    yield {**base, "options": {"steps": 17}}


def test_keys_differ_when_anything_differs(tmp_path: Path):
    """D-D5: the original's key lacked the relation, so that all 15 shared the first one's neurons."""
    keys = [select.key(**arguments) for arguments in _keys()]  # type: ignore[arg-type]
    assert len(keys) == len(set(keys)) == 10
    assert keys[0] == select.key(**next(_keys()))  # type: ignore[arg-type]
