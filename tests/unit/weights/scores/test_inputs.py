"""Wanda and the optimal brain surgeon against plain numpy, and against what they promise."""

import numpy as np
import pytest
import torch

from toys import bigram_task
from tremor.errors import ConfigError, NumericsError
from tremor.weights.scores import SCORES, Options, inputs, prepare, score
from tremor.weights.scores.inputs import comparable, inverse_diagonal, linears
from tremor.weights.select import select

TEXTS = ["The capital of France is Paris.", "The capital of Spain is Madrid, the capital of Italy is Rome."]


def inputs_of(loaded, module):
    """Inputs of a module over all texts, text by text: [tokens, in]."""
    seen = []
    handle = module.register_forward_hook(lambda m, args, out: seen.append(args[0].reshape(-1, args[0].shape[-1])))
    with torch.no_grad():
        for text in TEXTS:
            loaded.model(torch.tensor([loaded.tokenizer(text)["input_ids"]]))
    handle.remove()
    return torch.cat(seen).double().numpy()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_against_numpy(loaded_model, family):
    loaded = loaded_model(family)
    selection = select(loaded.anatomy)
    options = Options(dampening=0.05)
    wanda, surgeon, spike = (
        dict(score(name, loaded, TEXTS, selection=selection, options=options))
        for name in ("wanda", "obs_diag", "activation_spike")
    )
    modules = linears(selection)
    assert list(wanda) == list(surgeon) == list(modules)
    for name, (module, *_) in modules.items():
        x = inputs_of(loaded, module)
        weight = module.weight.detach().double().numpy()
        rows = weight.T if name in loaded.anatomy.transposed else weight  # [out, in]
        gram = x.T @ x / len(x)
        inverse = np.linalg.inv(gram + 0.05 * np.diag(gram).mean() * np.eye(len(gram)))
        right = {
            "wanda": np.abs(rows) * np.sqrt((x**2).mean(0)),
            "obs_diag": rows**2 / np.diag(inverse),
            "activation_spike": np.abs(rows) * np.abs(x).max(0),
        }
        for kind, found in (("wanda", wanda), ("obs_diag", surgeon), ("activation_spike", spike)):
            if name not in found:
                continue
            mine = found[name].numpy()
            mine = mine.T if name in loaded.anatomy.transposed else mine
            # The score is rounded to float32, the weights' type; the inverse costs its condition number, below 1e3.
            np.testing.assert_allclose(mine, right[kind], rtol=1e-5, atol=1e-9, err_msg=f"{kind} {name}")
    down = {part.down.parameter for part in loaded.anatomy.block_parts}
    assert set(spike) == down


def test_obs_is_the_error_after_the_best_repair():
    """Remove one weight and let least squares choose the others of its row: the rise of the mean squared error."""
    generator = np.random.default_rng(3)
    x, row = generator.normal(size=(200, 7)) @ generator.normal(size=(7, 7)), generator.normal(size=7)
    inverse = inverse_diagonal(torch.tensor(x.T @ x / 200), 0.0, "a layer").numpy()
    for j in range(7):
        others = np.delete(x, j, axis=1)
        _, residual, *_ = np.linalg.lstsq(others, x @ row, rcond=None)
        assert row[j] ** 2 / inverse[j] == pytest.approx(residual[0] / 200, rel=1e-9)


def test_bigram_inputs_are_frequencies():
    """One-hot inputs: the root mean square is the square root of a token's frequency, the Gram matrix is diagonal."""
    task = bigram_task([[0, 1, 2, 0, 1, 0], [3, 4, 5, 3]], dampening=0.5)
    weight = task.loaded.model.head.weight.detach()
    frequency = torch.bincount(torch.cat(task.sequences), minlength=6).double() / 10
    ((_, wanda),) = SCORES["wanda"].stream(task)
    torch.testing.assert_close(wanda, weight.abs() * frequency.sqrt())
    ((_, surgeon),) = SCORES["obs_diag"].stream(task)
    torch.testing.assert_close(surgeon, weight.square() * (frequency + 0.5 * frequency.mean()))


def test_groups_of_layers_give_what_all_together_give(loaded_model, monkeypatch):
    """Gram matrices that do not fit at once take more passes."""
    loaded = loaded_model("llama")
    whole = dict(score("obs_diag", loaded, TEXTS))
    monkeypatch.setattr(inputs, "GRAM_BYTES", 8 * 32**2)
    parts = dict(score("obs_diag", loaded, TEXTS))
    assert list(parts) == list(whole)
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_what_has_no_linear_layer_is_left_out_and_named(loaded_model):
    mamba = loaded_model("mamba")
    task = prepare("wanda", mamba, TEXTS)
    scored = [name for name, _ in SCORES["wanda"].stream(task)]
    left = task.notes["wanda"]["tensors_left_out"]
    # dt_proj is a linear layer whose weight the scan uses by itself; the convolution and the decay are none.
    assert {name.rsplit(".", 2)[-2] for name in left if "layers.0" in name} == {"mixer", "conv1d", "dt_proj"}
    assert sorted(scored + left) == sorted(task.selection.tensors)
    assert set(comparable(task).tensors) == set(scored)
    with pytest.raises(ConfigError, match="this score is defined for"):
        list(score("wanda", mamba, TEXTS, selection=select(mamba.anatomy, components=["conv1d"])))


def test_a_layer_that_nobody_calls_is_no_zero(loaded_model):
    mamba = loaded_model("mamba")
    with pytest.raises(NumericsError, match="were never called"):
        list(score("wanda", mamba, TEXTS, selection=select(mamba.anatomy, components=["dt_proj"])))


def test_too_few_tokens_need_dampening():
    with pytest.raises(NumericsError, match="singular; give more text or more dampening"):
        inverse_diagonal(torch.ones(3, 3, dtype=torch.float64), 0.0, "a layer")
