"""What a machine can offer, judged from made-up machines."""

import pytest

from tremor import offers, platform
from tremor.config import Config, load
from tremor.errors import ConfigError
from tremor.graph import Graph

AVX2 = ["fma", "avx2"]
AVX512 = [*AVX2, "avx512f", "avx512bw", "avx512vl", "avx512dq"]


@pytest.fixture
def machine(monkeypatch):
    """Make this machine one with these CPU flags and CUDA devices."""

    def make(flags, cuda=0):
        monkeypatch.setattr(offers, "cpu_flags", lambda: flags)
        monkeypatch.setattr(offers, "cuda_devices", lambda: cuda)

    return make


def graph(tmp_path, **config):
    return Graph({**Config().model_dump(mode="json"), **config}, home=offers.Path(__file__).resolve().parents[2])


@pytest.mark.parametrize(
    ("flags", "cuda", "pairs", "reason"),
    [
        (AVX512, 1, ["repeat", "isa", "kernel", "precision", "device"], {}),
        (AVX512, 0, ["repeat", "isa", "kernel", "precision"], {"device": "cuda: cuda is not here"}),
        (AVX2, 0, ["repeat", "kernel", "precision"], {"isa": "native and avx2 are the same arithmetic on this CPU"}),
        ([], 0, ["repeat", "kernel", "precision"], {"isa": "avx2: this CPU lacks avx2, fma"}),
    ],
)
def test_auto_takes_what_the_machine_offers_and_says_what_it_leaves_out(flags, cuda, pairs, reason, machine, tmp_path):
    machine(flags, cuda)
    found = graph(tmp_path)
    assert found.pairs == pairs
    for name, text in reason.items():
        assert found.left_out[name].startswith(text)
    assert found.platforms[:2] == ["native", "again"]
    assert found.pair("kernel") == ("native", "eager")


def test_a_control_is_no_duplicate_and_other_machines_are_not_judged(machine, tmp_path):
    machine([])
    platforms = {
        **Config().model_dump(mode="json")["platforms"],
        "a100": {"device": "cuda", "constraint": "a100"},
        "h100": {"device": "cuda", "slurm_partition": "h100"},
        "theirs": {"device": "cuda", "imported": True},
    }
    pairs = {"gpus": ["a100", "h100"], "theirs": ["native", "theirs"], "repeat": ["native", "again"]}
    found = graph(tmp_path, platforms=platforms, pairs=pairs)
    assert found.pairs == ["gpus", "theirs", "repeat"]

    class Wildcards:
        platform = "a100"

    assert {name: place(Wildcards) for name, place in found.placement().items()} == {
        "slurm_partition": "",
        "constraint": "a100",
    }
    assert "constraint" not in found.platform(Wildcards)
    assert found.names("platforms", imported=True) == "theirs"


def test_named_pairs_are_taken_as_they_are(machine, tmp_path):
    machine([])
    found = graph(tmp_path, select={"pairs": ["device"]})
    assert found.pairs == ["device"]
    assert found.left_out == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": {"x": ["native", "nativ"]}}, "pairs.x: 'nativ' is not defined under `platforms`; did you mean"),
        ({"pairs": {"x": ["native", "native"]}}, "pairs.x: names 'native' twice; as a control, define a second"),
        ({"select": {"pairs": ["kernels"]}}, "select.pairs: 'kernels' is not defined under `pairs`; did you mean"),
        ({"platforms": {"x": {"tf32": True}}}, "tf32 is a format of CUDA devices"),
        ({"platforms": {"x": {"device": "auto"}}}, "platforms.x.device"),
        ({"platforms": {"x": {"environment": {"A B": "1"}}}}, "platforms.x.environment"),
    ],
)
def test_platforms_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        load({**Config().model_dump(mode="json"), **change})


def test_cuda_devices_that_torch_can_use(monkeypatch):
    monkeypatch.setattr(offers.metadata, "version", lambda name: "2.13.0+cpu")
    assert offers.cuda_devices() == 0
    monkeypatch.setattr(offers.metadata, "version", lambda name: "2.13.0")
    names = [offers.Path("/dev") / name for name in ("nvidia0", "nvidia1", "nvidiactl", "null")]
    monkeypatch.setattr(offers, "_devices", lambda: names)
    for visible, count in ((None, 2), ("", 0), ("1", 1), ("0,1,2", 2), ("-1", 0)):
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert offers.cuda_devices() == count


def test_the_default_instruction_set_is_the_one_torch_takes():
    import torch

    if "ATEN_CPU_CAPABILITY" not in platform.os.environ and platform.cpu_flags():
        assert torch.backends.cpu.get_cpu_capability().lower() == offers.default_capability()
