"""What a recording holds, against Hugging Face's generate; resuming; batches; disk; refusals."""

import numpy as np
import pytest
import torch

from tremor.config import Config, block
from tremor.errors import ArtifactError, ConfigError
from tremor.experiments import norm_effect, recording_summary, recordings, unembedding
from tremor.record.decode import prompt_ids
from tremor.record.recording import TapPlan
from tremor.record.taps import choose
from tremor.sizes import recording_mb
from tremor.store import scratch
from tremor.store.hdf5 import Bf16, Hdf5Reader, read_hdf5
from tremor.store.tables import read_csv


def content(path):
    return {name: value.bits if isinstance(value, Bf16) else value for name, value in read_hdf5(path).datasets.items()}


def same(first, second):
    a, b = content(first), content(second)
    return a.keys() == b.keys() and all(
        x.shape == b[n].shape and x.dtype == b[n].dtype and x.tobytes() == b[n].tobytes() for n, x in a.items()
    )


def test_a_recording_is_what_generate_does(record, open_platform, questions):
    opened = open_platform("llama")
    path = record(opened=opened)[0]
    loaded, artifact = opened.loaded, read_hdf5(path)
    ids = prompt_ids(loaded, questions[0][2])
    with torch.no_grad():
        oracle = loaded.model.generate(
            torch.from_numpy(ids)[None],
            max_new_tokens=6,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            output_hidden_states=True,
            pad_token_id=0,
        )
    assert artifact.array("prompt_ids").tolist() == ids.tolist()
    assert artifact.array("generated_ids").tolist() == oracle.sequences[0, len(ids) :].tolist()
    logits = torch.stack([row[0] for row in oracle.logits]).numpy()
    n = len(logits)
    assert artifact.array("top_ids").dtype == np.int64
    order = np.argsort(-logits, axis=1, kind="stable")[:, :10]
    assert (artifact.array("top_ids") == order).all()
    # One prompt, one order of sums: the head on the last row alone may round its products in another order.
    np.testing.assert_allclose(artifact.array("top_logits"), np.take_along_axis(logits, order, 1), rtol=1e-5, atol=1e-6)
    for index, states in enumerate(oracle.hidden_states):
        for tap, level in (("embedding", 0), ("residual.1", 1), ("final", -1)):
            row = artifact.array(f"states/{tap}")[index]
            np.testing.assert_allclose(row, states[level][0, -1].numpy(), rtol=1e-5, atol=1e-6)
    assert {array.shape[0] for name, array in content(path).items() if name != "prompt_ids"} == {n}
    probs = torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
    np.testing.assert_allclose(artifact.array("top_probs"), np.take_along_axis(probs, order, 1), rtol=1e-5)


def test_the_final_state_and_the_unembedding_give_the_stored_logits(record, open_platform, tmp_path):
    """Of the originals' representations they did not: those were normed twice."""
    opened = open_platform("llama")
    artifact = read_hdf5(record(opened=opened)[0])
    unembedding.export(opened, data=tmp_path / "u.h5", provenance={"config": {}, "code": "", "inputs": {}})
    found = read_hdf5(tmp_path / "u.h5")
    weight = found.array("weight").astype(np.float64)
    logits = artifact.array("states/final").astype(np.float64) @ weight.T
    expected = np.take_along_axis(logits, artifact.array("top_ids"), 1)
    np.testing.assert_allclose(artifact.array("top_logits"), expected, rtol=1e-5, atol=1e-6)
    prenorm = artifact.array("states/final_prenorm").astype(np.float64)
    eps = opened.loaded.model.config.rms_norm_eps
    final = prenorm / np.sqrt((prenorm**2).mean(1, keepdims=True) + eps) * found.array("gain")
    np.testing.assert_allclose(artifact.array("states/final"), final, rtol=1e-5, atol=1e-6)
    assert found.attributes["norm"] == "LlamaRMSNorm"
    assert found.attributes["norm_adds_one"] is False
    assert "bias" not in found.datasets


def test_gemma_norms_add_one(open_platform, tmp_path):
    loaded = (opened := open_platform("gemma2")).loaded
    unembedding.export(opened, data=tmp_path / "u.h5", provenance={"config": {}, "code": "", "inputs": {}})
    found = read_hdf5(tmp_path / "u.h5", names=[])
    assert found.attributes["norm_adds_one"] is True
    assert found.attributes["softcap"] == 30.0
    # So exp8 must divide by 1 + gain: an RMSNorm without its gain turns nothing but by float32 rounding.
    with torch.no_grad(), loaded.anatomy.record(["final_prenorm", "final"]) as held:
        loaded.anatomy.base(input_ids=torch.from_numpy(prompt_ids(loaded, "The sun rises"))[None])
    before, after = (held[name][0, -1].double().numpy() for name in ("final_prenorm", "final"))
    with Hdf5Reader(tmp_path / "u.h5") as matrix:
        assert norm_effect.angle_between(before, norm_effect.FinalNorm(matrix).gain_free(after)) < 1e-6


def test_attributes_tell_all_and_text_may_be_anything(record, questions):
    with Hdf5Reader(record()[2]) as file:
        known = file.attributes
        tokens = file.shape("generated_ids")[0]
    assert (known["question"], known["kind"], known["text"]) == questions[2]
    assert known["stopped"] in ("eos", "length")
    assert (known["decode"], known["dtype"], known["n_layers"], known["d_model"]) == ("cached", "float32", 2, 32)
    assert known["model"] == "tiny"
    assert len(known["weights_digest"]) == len(known["tokenizer_digest"]) == 64
    assert len(known["pieces"]) == tokens
    assert known["taps"][0] == "embedding"
    assert known["taps"][-1] == "final"


def test_the_same_request_twice_is_the_same_content(record):
    """The control of all comparisons: also the digest over content, which leaves out times only."""
    for first, second in zip(record("native"), record("again"), strict=True):
        assert same(first, second)
        import h5py

        with h5py.File(first) as a, h5py.File(second) as b:
            assert a.attrs["content_sha256"] == b.attrs["content_sha256"]


def test_bfloat16_states_keep_their_bits(record):
    artifact = read_hdf5(record(platform={"dtype": "bfloat16"})[0])
    states = artifact.datasets["states/final"]
    assert isinstance(states, Bf16)
    # The logits are the upper halves of float32 numbers.
    assert not (artifact.array("top_logits").view(np.int32) & 0xFFFF).any()


def test_uncached_and_cached_agree_in_tokens_not_in_bits(record):
    cached, plain = record("cached"), record("uncached", decode="uncached")
    assert not all(same(a, b) for a, b in zip(cached, plain, strict=True))
    for a, b in zip(cached, plain, strict=True):
        assert content(a)["generated_ids"].tolist() == content(b)["generated_ids"].tolist()
        np.testing.assert_allclose(content(a)["states/final"], content(b)["states/final"], atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "mamba"])
def test_other_families_and_a_batch_with_a_last_incomplete_one(family, record):
    alone, together = record("one", family=family), record("two", family=family, batch=2)
    for a, b in zip(alone, together, strict=True):
        assert content(a)["generated_ids"].tolist() == content(b)["generated_ids"].tolist()
        np.testing.assert_allclose(content(a)["states/final"], content(b)["states/final"], atol=1e-4)
        assert content(a).keys() == content(b).keys()


def test_taps_of_some_questions_and_some_steps_only(record):
    few, all_taps = record(tap_questions=["short"], tap_steps=2)[:2]
    assert read_hdf5(few).attributes["taps"] == [
        "embedding", "block.0.input_layernorm", "block.0.post_attention_layernorm", "final_prenorm", "final",
    ]  # fmt: skip
    found = content(all_taps)
    tokens = len(found["generated_ids"])
    assert tokens > 2
    assert len(found["states/final"]) == len(found["states/block.0.input_layernorm"]) == tokens
    assert len(found["states/residual.1"]) == 2
    with pytest.raises(ConfigError, match="no selected question is called 'nobody'"):
        record(tap_questions=["nobody"])


def test_a_small_buffer_writes_the_same_bits(record, monkeypatch):
    from tremor.record import recording

    whole = record("whole", batch=3)
    monkeypatch.setattr(recording, "BUFFER_BYTES", 1)  # one token at a time
    for a, b in zip(whole, record("pieces", batch=3), strict=True):
        assert same(a, b)


class Killed(BaseException):
    """As SIGKILL is: nothing of the job's own runs after it."""


def kill_in(monkeypatch, number):
    """Let the job die in the middle of a question."""
    honest, calls = recordings.record, []

    def dying(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            from tremor.record import recording

            monkeypatch.setattr(recording, "_note", lambda *a: (_ for _ in ()).throw(Killed))
        return honest(*args, **kwargs)

    monkeypatch.setattr(recordings, "record", dying)
    return calls


def test_a_killed_recording_goes_on_with_the_question_it_died_in(record, open_platform, monkeypatch, tmp_path):
    opened = open_platform("llama")
    undisturbed = record("undisturbed", opened=opened)
    with monkeypatch.context() as patch:
        kill_in(patch, 3)
        with pytest.raises(Killed):
            record("killed", opened=opened)
    assert sorted(path.name for path in (tmp_path / ".killed.partial").glob("q*")) == ["q01.h5", "q02.h5"]
    assert not list((tmp_path / "killed").glob("*")) if (tmp_path / "killed").exists() else True
    with monkeypatch.context() as patch:
        calls = kill_in(patch, 99)
        resumed = record("killed", opened=opened)
        assert len(calls) == 1, "finished questions were recorded again"
    assert all(same(a, b) for a, b in zip(undisturbed, resumed, strict=True))
    assert not (tmp_path / ".killed.partial").exists()


@pytest.mark.parametrize("family", ["llama", "mamba"])
@pytest.mark.parametrize("taps", ["final", "stages", "all"])
def test_the_disk_that_a_cluster_is_asked_for_is_enough(record, open_platform, family, taps):
    opened = open_platform(family)
    tokens = 300  # so that the fixed share of a question does not decide
    settings = {**block(Config(), "recorder"), "taps": taps, "tokens": tokens, "tap_questions": "all"}
    told = recording_mb(opened.manifest, dtype="float32", settings=settings, names=["capital"])
    chosen = choose(opened.loaded, taps, prompt_ids(opened.loaded, "The capital of France is"), "cached")
    real = TapPlan(chosen, [tap.name for tap in chosen], None).size(tokens) / 2**20
    assert real <= told <= 6 * real + 1


def test_a_killed_recording_goes_on_through_a_scratch(record, open_platform, monkeypatch, tmp_path):
    opened = open_platform("llama")
    monkeypatch.setenv(scratch.VARIABLE, "")
    undisturbed = record("undisturbed", opened=opened)
    node = tmp_path / "node"
    monkeypatch.setenv(scratch.VARIABLE, str(node))
    with monkeypatch.context() as patch:
        kill_in(patch, 3)
        with pytest.raises(Killed):
            record("killed", opened=opened)
    assert sorted(path.name for path in (tmp_path / ".killed.partial").glob("q*")) == ["q01.h5", "q02.h5"]
    with monkeypatch.context() as patch:
        calls = kill_in(patch, 99)
        resumed = record("killed", opened=opened)
        assert len(calls) == 1, "finished questions were recorded again"
    assert all(same(a, b) for a, b in zip(undisturbed, resumed, strict=True))
    assert not list(node.iterdir())
    monkeypatch.setattr(scratch, "free", lambda: 10)
    with pytest.raises(
        ArtifactError, match=rf"recordings grow in the scratch {node}, up to .* and 10.0 bytes are free"
    ):
        record("small", opened=opened)


def test_what_was_finished_under_other_settings_or_is_damaged_is_recorded_again(
    record, open_platform, monkeypatch, tmp_path
):
    opened = open_platform("llama")
    with monkeypatch.context() as patch:
        kill_in(patch, 3)
        with pytest.raises(Killed):
            record("a", opened=opened)
    damaged = tmp_path / ".a.partial/q01.h5"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with monkeypatch.context() as patch:
        calls = kill_in(patch, 99)
        paths = record("a", opened=opened)
        assert len(calls) == 2
    with monkeypatch.context() as patch:
        kill_in(patch, 3)
        with pytest.raises(Killed):
            record("a", opened=opened, tokens=3)
        calls = kill_in(patch, 99)
    with monkeypatch.context() as patch:
        calls = kill_in(patch, 99)
        record("a", opened=opened, tokens=4)
        assert len(calls) == 3
    assert {read_hdf5(path).array("generated_ids").shape[0] for path in paths} <= {1, 2, 3, 4}


def test_a_disk_that_is_too_small_is_refused_before_anything_is_generated(record, monkeypatch, caplog):
    from tremor.record import recording

    monkeypatch.setattr(recording.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(ArtifactError, match=r"need up to .*KiB, 1000.0 bytes are free"):
        record()


def test_the_estimate_is_the_size_of_the_datasets(record, open_platform, caplog):
    """Before compression, all of a recording but its prompt."""
    from tremor.record.recording import TapPlan
    from tremor.record.taps import choose

    opened = open_platform("llama")
    path = record(opened=opened)[0]
    found = content(path)
    taps = choose(opened.loaded, "all", found["prompt_ids"], "cached")
    size = sum(array.nbytes for name, array in found.items() if name != "prompt_ids")
    assert TapPlan(taps, [], None).size(len(found["generated_ids"])) == size


def test_the_summary_has_a_row_for_each_question(record, tmp_path, questions):
    paths = record()
    output = tmp_path / "summary.csv"
    rows = [{"model": "tiny", "platform": "native"}]
    recording_summary.tabulate(paths, rows, output=output, provenance={"config": {}, "code": "", "inputs": {}})
    frame = read_csv(output)
    assert frame["question"].tolist() == [name for name, *_ in questions]
    first = content(paths[0])
    assert frame.loc[0, "tokens"] == len(first["generated_ids"])
    assert frame.loc[0, "margin_min"] == pytest.approx(float(first["margin"].min()), rel=1e-6)
    states = [array for name, array in first.items() if name.startswith("states/")]
    assert frame.loc[0, "state_bytes"] == sum(array.nbytes for array in states)
    with pytest.raises(ArtifactError, match="of model 'tiny', not of 'other'"):
        recording_summary.tabulate(
            paths,
            [{"model": "other", "platform": "native"}],
            output=output,
            provenance={"config": {}, "code": "", "inputs": {}},
        )
