"""esa/robustness, esa/adversarial and esa/bit-level on a tiny Llama: numbers recomputed by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from tremor.config import Config, block
from tremor.errors import ConfigError
from tremor.evaluate import nll
from tremor.evaluate.adversary import Victim
from tremor.experiments import esa_adversarial, esa_bits, esa_robustness, esa_shared, summaries
from tremor.store.documents import read_json
from tremor.store.tables import read_csv, table_provenance
from tremor.weights.campaign import Campaign
from tremor.weights.mutate import bits_of
from tremor.weights.select import select

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
TEXTS = {"calibration": 2, "heldout": 3, "batch_size": 4}
NOISE = {"levels": [0.01, 0.3], "draws": 3, "bootstrap": 200, "fraction": 0.02}
ATTACKS = {"facts": 3, "openers": ["In five years, the world will"], "epsilons": [0.1, 0.5], "steps": 3, "edits": [1],
           "candidates": 6, "draws": 3}  # fmt: skip
BITS = {"texts": 2, "formats": ["float32", "bfloat16"], "weights": 1, "components": ["k", "down", "unembedding"],
        "attack_texts": 2, "max_flips": 2, "candidates": 3, "draws": 2, "mantissa": [2, 23]}  # fmt: skip


def settings(name, **changes):
    return {**block(Config(), "esa")[name], **changes}


def noisy(session, folder, **changes):
    folder.mkdir(exist_ok=True)
    esa_robustness.measure(
        session, texts=TEXTS, scores=settings("scores"), settings=settings("robustness", **{**NOISE, **changes}),
        draws=folder / "draws.csv", levels=folder / "levels.csv", statistics=folder / "statistics.json",
        provenance=ORIGIN,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def noise(chain, tmp_path_factory):
    before = {name: bits_of(p.detach()).clone() for name, p in chain.session.loaded.model.named_parameters()}
    folder = noisy(chain.session, tmp_path_factory.mktemp("noise"))
    for name, parameter in chain.session.loaded.model.named_parameters():
        assert torch.equal(before[name], bits_of(parameter.detach()))
    return folder


@pytest.fixture(scope="module")
def attacked(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacks")
    esa_adversarial.measure(
        chain.session, settings=settings("adversarial", **ATTACKS), attempts=folder / "attempts.csv",
        effects=folder / "effects.csv", statistics=folder / "statistics.json", provenance=ORIGIN,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def faults(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bits")
    names = ("faults", "positions", "attack", "precision", "ones", "exponents", "effects")
    esa_bits.measure(
        chain.session, texts=TEXTS, settings=settings("bit_level", **BITS), statistics=folder / "statistics.json",
        provenance=ORIGIN, **{name: folder / f"{name}.csv" for name in names},
    )  # fmt: skip
    return folder


def test_a_draw_of_noise_is_what_it_says(noise, chain):
    """Recomputed by hand: the noise of a table row added to the weights, with the seed that the row names."""
    loaded = chain.session.loaded
    row = read_csv(noise / "draws.csv").set_index(["kind", "level", "draw"]).loc[("gaussian", 0.3, 1)]
    texts = nll.tokenise(loaded, esa_shared.passages("heldout", 3))
    clean = nll.evaluate(loaded, texts, batch_size=4).nll
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    import zlib

    added = []
    for name, _ in select(loaded.anatomy).parameters():
        generator = torch.Generator().manual_seed(zlib.crc32(f"{row['seed']} {name}".encode()))
        old = before[name].double()
        draw = torch.randn(old.numel(), generator=generator, dtype=torch.float64).view(old.shape)
        new = (old + 0.3 * old.std(correction=0) * draw).float()
        added.append(((new.double() - old) / old.std(correction=0)).reshape(-1))
        loaded.model.get_parameter(name).data.copy_(new)
    changed = nll.evaluate(loaded, texts, batch_size=4).nll
    for name, parameter in loaded.model.named_parameters():
        parameter.data.copy_(before[name])
    # The same float64 sums of the same weights.
    assert row["delta_nll"] == pytest.approx(changed - clean, rel=1e-9)
    assert row["noise_rms"] == pytest.approx(float(torch.cat(added).square().mean().sqrt()), rel=1e-9)


def test_noise_is_relative_to_each_tensor_and_does_not_pile_up(noise, chain, tmp_path):
    """The originals added absolute noise; and a draw must not start from the noise of the one before."""
    levels = read_csv(noise / "levels.csv").set_index(["kind", "level"])
    # 1e5 draws: the standard deviation is known to 0.3 %; U(-1, 1) has 1/sqrt(3).
    assert levels.loc[("gaussian", 0.3), "noise_rms"] == pytest.approx(0.3, rel=0.02)
    assert levels.loc[("uniform", 0.3), "noise_rms"] == pytest.approx(0.3 / np.sqrt(3), rel=0.02)
    backwards = noisy(chain.session, tmp_path / "one", levels=[0.01], kinds=["gaussian"])
    alone = read_csv(backwards / "draws.csv")
    all_of_them = read_csv(noise / "draws.csv")
    same = all_of_them[(all_of_them["kind"] == "gaussian") & (all_of_them["level"] == 0.01)]
    assert alone["delta_nll"].tolist() == same["delta_nll"].tolist()  # to the bit, whatever came before


def test_targeted_noise_is_swept_like_any_other(noise, chain):
    """It made the originals' sweep stop; here it has as many random weights of the same tensors beside it."""
    levels = read_csv(noise / "levels.csv")
    assert set(summaries.COLUMNS["esa/robustness"]) <= set(levels.columns)
    assert levels["kind"].unique().tolist() == ["gaussian", "uniform", "targeted", "random"]
    population = select(chain.session.loaded.anatomy).count
    few = levels[levels["kind"].isin(["targeted", "random"])]
    assert (few["weights"] <= round(0.02 * population)).all()
    assert (few["weights"] > 0.99 * round(0.02 * population)).all()
    kl = levels.set_index(["kind", "level"])["kl"]
    assert kl["gaussian", 0.3] > kl["targeted", 0.3] > kl["random", 0.3]


def test_noise_of_a_component_falls_on_no_other(open_tiny):
    """Values in GPT-2's fused c_attn: the random weights beside the targeted ones are values too."""
    loaded = open_tiny("gpt2").loaded
    selection = select(loaded.anatomy, components=["value"])
    name = selection.tensors[0]
    width = loaded.model.get_parameter(name).shape[1]
    target = pd.DataFrame({"tensor": [name] * 5, "flat_index": width - 1 - np.arange(5)})
    for draw in range(20):
        [edit] = esa_robustness._edits("random", loaded, selection, target, [0, draw])
        assert bool((edit.flat_index % width >= 2 * width // 3).all())


def test_means_are_those_of_the_draws_and_seeds_are_recorded(noise):
    draws, levels = read_csv(noise / "draws.csv"), read_csv(noise / "levels.csv")
    own = draws.groupby(["kind", "level"], sort=False)[["delta_nll", "kl", "flip_rate"]].mean()
    for row in levels.itertuples():
        expected = own.loc[(row.kind, row.level)]
        assert (row.delta_nll, row.kl, row.flip_rate) == pytest.approx(tuple(expected), rel=1e-9, abs=1e-15)
        assert row.delta_nll_low <= row.delta_nll <= row.delta_nll_high
    assert draws[draws["kind"] == "gaussian"]["seed"].is_unique
    assert table_provenance(noise / "draws.csv")["seeds"]["noise"] == 0


def test_attacks_have_a_row_each_and_random_ones_beside(attacked):
    effects, attempts = read_csv(attacked / "effects.csv"), read_csv(attacked / "attempts.csv")
    assert set(summaries.COLUMNS["esa/adversarial"]) <= set(effects.columns)
    assert len(effects) == 2 * 2 + 6
    assert (effects["prompts"] == 4).all()
    assert len(attempts) == len(effects) * 4 * (1 + 3)
    for row in effects.itertuples():
        mine = attempts[(attempts["attack"] == row.attack) & (attempts["size"] == row.size)]
        own, random = mine[mine["role"] == "attack"], mine[mine["role"] == "random"]
        assert row.delta_nll == pytest.approx(own["delta_nll"].mean())
        assert row.random_delta_nll == pytest.approx(random["delta_nll"].mean())
        assert row.changed_rate == own["changed"].mean()
        assert row.nll_rate == (own["delta_nll"] >= 1.0).mean()
        if row.unit == "epsilon":
            assert row.delta_nll > row.random_delta_nll
            assert (mine["linf"] <= row.size * (1 + 1e-6)).all()  # rms is rounded to float64, the box is exact
            lengths = mine.groupby("prompt")["relative_l2"]
            # The same |change| in every coordinate, after one rounding each.
            assert (lengths.max() / lengths.min() < 1 + 1e-4).all()


def test_success_is_judged_by_loss_and_answer_not_by_spelling(attacked, chain):
    """The originals compared strings: random noise on the prompt counted. An attack's row can be read again."""
    attempts = read_csv(attacked / "attempts.csv")
    victim = Victim(chain.session.loaded, answer_tokens=4)
    row = attempts[(attempts["attack"] == "char_swap") & (attempts["role"] == "attack")].iloc[0]
    assert row["text"] != row["prompt"]
    assert bool(row["as_text"])
    question = esa_adversarial.questions(victim, settings("adversarial", facts=1))[0][1]
    assert question.text == row["prompt"]
    both = victim.read_ids([question.ids, victim.encode(row["text"])], question.reference)
    # The same rows in batches of another shape.
    assert both.nll[1] - both.nll[0] == pytest.approx(row["delta_nll"], abs=1e-5)
    assert bool((both.answers[0] != both.answers[1]).any()) == bool(row["changed"])
    document = read_json(attacked / "statistics.json")
    assert document["clean_nll_floor"] < 1e-5  # the clean prompt, read again and again
    assert document["clean_answers_most"] == 1
    assert document["questions"][-1]["source"] == "opener"


def test_a_text_that_is_asked_twice_counts_twice(attacked, chain):
    """A fact's prompt may also be an opening, with another reference; each has random changes of its own."""
    table = read_csv(attacked / "attempts.csv")
    mine = table[(table["attack"] == "fgsm") & (table["size"] == 0.5)]
    fact = mine[mine["prompt"] == mine["prompt"].iloc[0]]
    twice = pd.concat([mine, fact.assign(source="opener")], ignore_index=True)
    found = esa_adversarial._effect(twice, "fgsm", 0.5, settings("adversarial", **ATTACKS), chain.session.loaded)
    own, random = (twice[twice["role"] == role]["delta_nll"].mean() for role in ("attack", "random"))
    assert found["prompts"] == 5
    assert found["excess"] == pytest.approx(own - random)  # as many random changes beside every attack


def test_nothing_to_attack_is_an_error(chain):
    victim = Victim(chain.session.loaded, answer_tokens=2)
    with pytest.raises(ConfigError, match="names no prompt"):
        esa_adversarial.questions(victim, settings("adversarial", facts=0))
    with pytest.raises(ConfigError, match="lower it"):
        esa_adversarial.questions(victim, settings("adversarial", facts=10**6))


def test_every_bit_of_every_component_is_flipped_once(faults):
    table, cells = read_csv(faults / "faults.csv"), read_csv(faults / "positions.csv")
    assert len(table) == 3 * (32 + 16)
    for row in table[table["format"] == "float32"].itertuples():
        old, new = (np.float32(value).view(np.uint32) for value in (row.old, row.new))
        assert np.isnan(row.new) or int(old) ^ int(new) == 1 << row.bit
    counts = cells[["silent", "changed", "nan", "inf"]].sum(axis=1)
    assert (counts == cells["cases"]).all()
    signs = table[table["field"] == "sign"]
    assert (signs["new"] == -signs["old"]).all()
    assert (signs["old"] < 0).any()  # the originals could not flip the sign of a negative weight


def test_a_fault_is_the_effect_of_that_weight(faults, chain):
    loaded = chain.session.loaded
    row = read_csv(faults / "faults.csv").query("component == 'down' and bit == 30").iloc[0]
    texts = nll.tokenise(loaded, esa_shared.passages("heldout", 2))
    clean = nll.evaluate(loaded, texts, batch_size=4).nll
    flat = loaded.model.get_parameter(row["tensor"]).data.view(-1)
    assert float(flat[row["flat_index"]]) == row["old"]
    flat[row["flat_index"]] = row["new"]
    changed = nll.evaluate(loaded, texts, batch_size=4).nll
    flat[row["flat_index"]] = row["old"]
    assert row["delta_nll"] == pytest.approx(changed - clean, rel=1e-9)
    assert abs(row["new"]) > 1e30  # not replaced by a percent of noise, as the originals did
    assert row["outcome"] in ("changed", "nan", "inf")


def test_catastrophic_flips_have_a_class_and_no_cap(private_model):
    """Bit 30 of 0.05 is 1.7e37; of 1.5 it is NaN. Both are put into the model as they are."""
    loaded = private_model("llama")
    name = "model.layers.0.mlp.down_proj.weight"
    flat = loaded.model.get_parameter(name).data.view(-1)
    flat[0], flat[1], flat[2] = 0.05, 1.5, 1.0
    campaign = Campaign(loaded, nll.tokenise(loaded, esa_shared.passages("heldout", 2)), batch_size=2)
    from tremor.weights import bits

    found = [esa_bits._fault(campaign, name, i, flat[i : i + 1], bits.flipped(flat[i : i + 1], 30)) for i in range(3)]
    assert found[0]["new"] == pytest.approx(1.7014e37, rel=1e-4)
    assert np.isnan(found[1]["new"])
    assert found[1]["outcome"] == "nan"
    assert found[1]["delta_nll"] is None
    assert found[2]["value"] == "infinite"
    assert found[2]["outcome"] in ("nan", "inf")
    assert (flat[0], flat[1], flat[2]) == (torch.tensor(0.05), 1.5, 1.0)


def test_precision_is_rounding_and_no_noise(faults, chain):
    table = read_csv(faults / "precision.csv").set_index("setting")
    assert table.loc["mantissa_23", "weights"] == 0
    assert table.loc["mantissa_23", "silent"] == 1
    assert table.loc["mantissa_2", "kl"] > table.loc["int8", "kl"] > 0
    loaded = chain.session.loaded
    texts = nll.tokenise(loaded, esa_shared.passages("heldout", 2))
    clean = nll.evaluate(loaded, texts, batch_size=4).nll
    before = {}
    for name, parameter in select(loaded.anatomy, components=BITS["components"]).parameters():
        before[name] = parameter.detach().clone()
        mantissa, exponent = np.frexp(before[name].double().numpy())
        parameter.data.copy_(torch.from_numpy(np.ldexp(np.round(mantissa * 8) / 8, exponent)).float())
    rounded = nll.evaluate(loaded, texts, batch_size=4).nll
    for name, old in before.items():
        loaded.model.get_parameter(name).data.copy_(old)
    assert table.loc["mantissa_2", "delta_nll"] == pytest.approx(rounded - clean, rel=1e-9)


def test_attack_tables_start_clean_and_rise(faults):
    table = read_csv(faults / "attack.csv")
    for _, rows in table[table["role"] == "search"].groupby("rule"):
        assert rows["flips"].tolist() == list(range(len(rows)))
        assert rows["delta_nll"].iloc[0] == 0
        attacked = rows["attacked_nll"].fillna(np.inf)
        assert attacked.is_monotonic_increasing
        assert attacked.iloc[-1] > attacked.iloc[0]
    random = table[table["role"] != "search"]
    assert set(random["draw"]) == {0, 1}
    same = table[(table["rule"] == "in_range") & (table["flips"] == 1)]
    assert same[same["role"] != "random"]["bit"].nunique() == 1


def test_the_summary_joins_all_studies(faults):
    effects = read_csv(faults / "effects.csv")
    assert set(summaries.COLUMNS["esa/bit-level"]) <= set(effects.columns)
    assert effects["study"].unique().tolist() == ["flip", "precision", "attack"]
    flips = effects[effects["study"] == "flip"]
    assert flips[(flips["format"] == "float32") & (flips["setting"] == "mantissa")]["cases"].tolist() == [23] * 3
    assert (effects[["silent", "changed", "nan", "inf"]].sum(axis=1) == effects["cases"]).all()


def test_shares_of_ones_against_numpy(faults, chain):
    ones = read_csv(faults / "ones.csv")
    weights = np.concatenate(
        [p.detach().numpy().ravel() for n, p in chain.session.loaded.model.named_parameters() if "k_proj.weight" in n]
    )
    raw = weights.view(np.uint32)
    for row in ones[ones["component"] == "k"].itertuples():
        assert row.ones == pytest.approx(((raw >> row.bit) & 1).mean(), abs=1e-12)
    exponents = read_csv(faults / "exponents.csv")
    assert exponents[exponents["component"] == "k"]["weights"].sum() == len(weights)
