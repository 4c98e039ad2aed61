"""Figures of neurons and tracing draw what their tables hold, for any number of models, and byte for byte the same."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tremor.figures import neurons, save, tracing


def summary(models=("one", "two"), relations=("P36", "P30", "P413"), wordings=("train", "heldout")):
    rows = []
    for m, model in enumerate(models):
        for layer in (1, 2):
            for selector in ("variance", "gradient"):
                for r, relation in enumerate(relations):
                    for w, wording in enumerate(wordings):
                        delta = 0.1 * (r - 1) + 0.01 * m + 0.3 * w
                        rows.append({
                            "model": model, "layer_name": str(layer), "layer": layer, "tap": "output",
                            "selector": selector, "relation": relation, "erased": relation, "wording": wording,
                            "relation_name": f"name_{r}", "baseline_ppl": 2.0 + r + m, "delta_nll": delta,
                            "percentage_change": 100 * np.expm1(delta), "absolute_change": delta,
                            "percentage_low": 100 * np.expm1(delta) - 1, "percentage_high": 100 * np.expm1(delta) + 1,
                            "control_percentile": 100.0 if r == 0 else 50.0, "specificity_answer": delta,
                        })  # fmt: skip
    return pd.DataFrame(rows)


def cells(table):
    parts = [
        table.assign(measured=r, answer_logprob_change=-table["delta_nll"]) for r in ("P36", "P30", "P413", "other")
    ]
    return pd.concat(parts, ignore_index=True)


def traces():
    rows = [
        {
            "text": "A is B.", "answer": "B", "kind": kind, "layer": layer, "position": p, "token": t, "role": role,
            "clean_logprob": -0.1, "corrupted_logprob": -5.0, "restored_logprob": -5.0 + p + layer,
        }
        for kind in ("output", "mixer")
        for layer in (0, 1)
        for p, (t, role) in enumerate((("<s>", "begin"), ("A", "subject_last"), (" is", "last")))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_percentages_show_points_fits_and_bars_of_one_wording():
    table = summary()
    figure = neurons.percentage(table, wording="train")
    points = {line.get_gid(): line for axes in figure.axes for line in axes.lines if line.get_gid()}
    own = table[(table["model"] == "two") & (table["layer"] == 1) & (table["selector"] == "variance")]
    own = own[own["wording"] == "train"]
    np.testing.assert_allclose(points["points-two"].get_ydata(), own["percentage_change"])
    slope = np.polyfit(own["baseline_ppl"], own["percentage_change"], 1)[0]
    x, y = points["fit-two"].get_xdata(), points["fit-two"].get_ydata()
    assert (y[1] - y[0]) / (x[1] - x[0]) == pytest.approx(slope)
    # A file's sentences have a wording of their own, which is drawn whatever was asked for.
    neurons.percentage(summary(wordings=("file",)), wording="train")


def test_layers_mark_what_no_control_reaches():
    figure = neurons.layers(summary(), wording="train")
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 4
    image = panels[0].images[0].get_array()
    np.testing.assert_allclose(image[:, 0], [-0.1, 0.0, 0.1], atol=1e-12)
    assert list(panels[0].lines[0].get_ydata()) == [0, 0]  # the first relation, at both layers


def test_the_matrix_has_losses_in_red_and_no_other_text():
    figure = neurons.matrix(cells(summary()), wording="train")
    panels = [axes for axes in figure.axes if axes.images]
    image = panels[0].images[0]
    assert image.get_array().shape == (3, 3)
    assert float(image.get_array()[2, 0]) == pytest.approx(0.1)
    assert image.norm.vmin == -image.norm.vmax


def test_patterns_and_three_models():
    table = summary(models=("a", "b", "c"))
    figure = neurons.patterns(table, wording="heldout")
    assert len(figure.axes[0].get_yticklabels()) == 12


def test_traces_show_tokens_and_models_without_an_mlp():
    figure = tracing.example({"one": traces(), "two": traces()})
    panels = [axes for axes in figure.axes if axes.images]
    assert [t.get_text() for t in panels[0].get_yticklabels()] == ["<s>", "A*", "is"]
    np.testing.assert_allclose(panels[0].images[0].get_array()[2], [-3.0, -2.0])
    roles = pd.DataFrame(
        [
            {"model": m, "kind": k, "layer": layer, "role": r, "recovered": 0.5}
            for m, k in (("one", "output"), ("two", "output"), ("two", "mlp"))
            for layer in (0, 1)
            for r in ("begin", "last")
        ]
    )
    figure = tracing.roles(roles)
    assert any("one has no" in text.get_text() for axes in figure.axes for text in axes.texts)


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_the_same_data_give_the_same_bytes(suffix, tmp_path: Path):
    paths = [tmp_path / f"{i}{suffix}" for i in range(2)]
    for path in paths:
        save.save(neurons.layers(summary(), wording="train"), [path])
    assert paths[0].read_bytes() == paths[1].read_bytes()
