"""Numerics platforms: what is asked for, what is in force, and refusals."""

import getpass
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tremor import gpus, platform
from tremor.errors import ArtifactError, PlatformError
from tremor.platform import Request, fingerprint, numerics_key, require_same

ROOT = str(Path(platform.__file__).parents[1])


def in_fresh_process(code: str, **environment: str) -> Any:
    """Run code that prints one JSON value in a process where torch is not imported yet."""
    clean = {k: v for k, v in os.environ.items() if k not in platform.BASE_ENVIRONMENT and "NUM_THREADS" not in k}
    head = "import json, os, sys\nfrom tremor.platform import *\nfrom tremor import platform\n"
    result = subprocess.run(
        [sys.executable, "-c", head + code],
        capture_output=True, text=True, check=False, env={**clean, "PYTHONPATH": ROOT, **environment},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_apply_and_fingerprint() -> None:
    code = """
seen = {}
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            names = ("CUBLAS_WORKSPACE_CONFIG", "OMP_NUM_THREADS", "MY_OWN")
            seen.update({k: os.environ.get(k) for k in names})
sys.meta_path.insert(0, Spy())
assert "torch" not in sys.modules
from tremor.memory import peak_device_memory_bytes
request = Request(device="cpu", threads=1, environment={"MY_OWN": "1", "ATEN_CPU_CAPABILITY": "default"})
applied = platform.apply(request)
again = platform.apply(request)
import torch
print(json.dumps([seen, applied, again, fingerprint(request, resolve_device("cpu"), attention="eager"),
                  torch.backends.cuda.matmul.allow_tf32, dict(os.environ), peak_device_memory_bytes()]))
"""
    seen, applied, again, found, tf32, environment, device_memory = in_fresh_process(code)
    assert seen == {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "OMP_NUM_THREADS": "1", "MY_OWN": "1"}
    assert applied == again
    assert applied == {
        "threads": 1, "interop_threads": 1, "deterministic": True, "deterministic_warn_only": False,
        "cudnn_benchmark": False, "tf32": False, "float32_matmul_precision": "highest",
        "reduced_precision_reduction": False, "cpu_capability": applied["cpu_capability"],
    }  # fmt: skip
    assert applied["cpu_capability"] in ("DEFAULT", "NO AVX")
    assert tf32 is False
    assert device_memory == 0
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["TOKENIZERS_PARALLELISM"] == "false"
    assert found["requested"]["device"] == "cpu"
    assert found["requested"]["attention"] == "auto"
    assert found["applied"]["attention"] == "eager"
    assert found["applied"]["device"] == "cpu"
    assert found["applied"]["environment"]["ATEN_CPU_CAPABILITY"] == "default"
    assert len(found["applied"]["torch_config_sha256"]) == 64
    text = json.dumps(found)
    assert socket.gethostname() not in text
    assert getpass.getuser() == "root" or getpass.getuser() not in text


def test_too_late_for_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", object())
    monkeypatch.delenv("MKL_CBWR", raising=False)
    with pytest.raises(PlatformError, match=r"MKL_CBWR=COMPATIBLE must be set before torch.*\(unset\).*fresh process"):
        platform.apply(Request(environment={"MKL_CBWR": "COMPATIBLE"}))
    assert "MKL_CBWR" not in os.environ
    with pytest.raises(PlatformError, match="acts before Python starts only; export it"):
        platform.apply(Request(environment={"LD_PRELOAD": "x.so"}))


def test_instructions_this_cpu_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(platform, "_text", lambda path: "flags\t: fpu avx2 fma\n")
    before = dict(os.environ)
    with pytest.raises(PlatformError, match=r"this CPU lacks avx512f.*choose another value"):
        platform.apply(Request(environment={"ATEN_CPU_CAPABILITY": "avx512"}))
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"device": "gpu"}, "device 'gpu' is unknown: use auto, cpu, cuda or cuda:N"),
        ({"dtype": "fp32"}, "dtype 'fp32' is unknown"),
        ({"attention": "flash"}, "attention 'flash' is unknown"),
        ({"threads": 0}, "use 1 or more"),
    ],
)
def test_bad_requests(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(PlatformError, match=text):
        Request(**changes)


def test_requests_are_frozen() -> None:
    environment = {"A": "1"}
    request = Request(environment=environment)
    environment["A"] = "2"
    assert request.environment["A"] == "1"
    with pytest.raises(TypeError, match="assignment"):
        request.environment["A"] = "3"  # type: ignore[index]


def test_resolve_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tempfile

    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert platform.resolve_device("auto") == platform.resolve_device("cpu") == "cpu"
    with pytest.raises(PlatformError, match=r"device cuda was asked for but .*set device: auto or cpu"):
        platform.resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(platform, "_cards", lambda count: [f"GPU-{index}" for index in range(count)])
    assert platform.resolve_device("auto") == platform.resolve_device("cuda") == "cuda:0"
    assert platform.resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(PlatformError, match=r"cuda:2 was asked for but 2 CUDA device\(s\) are visible"):
        platform.resolve_device("cuda:2")
    gpus.release_all()


def test_require_same() -> None:
    found = fingerprint(Request(device="cpu"), "cpu")
    require_same(found, json.loads(json.dumps(found)), path="a.h5")
    assert numerics_key(found)["dtype"] == "float32"
    assert "torch_config_sha256" not in numerics_key(found)
    other = {
        **found,
        "applied": {**found["applied"], "dtype": "bfloat16", "threads": 99, "interop_threads": 7},
    }
    with pytest.raises(
        ArtifactError,
        match=r"a.h5 was made on another platform: threads 99 there, .* here; "
        r"dtype 'bfloat16' there, 'float32' here\. "
        r"Make it again here: run snakemake with `--forcerun boundary`",
    ):
        require_same(other, found, path="a.h5", rule="boundary")
    with pytest.raises(ArtifactError, match="does not say on which platform"):
        require_same({}, found, path="a.h5")


@pytest.mark.gpu
def test_cuda_is_described() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    found = fingerprint(Request(device="cuda"), platform.resolve_device("cuda"))["applied"]
    assert found["device"] == "cuda"
    assert found["device_name"] == torch.cuda.get_device_name(0)
    assert found["cuda_runtime"] == torch.version.cuda
