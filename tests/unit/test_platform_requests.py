"""A platform that was asked for is had, or its job stops: nothing is ignored without a word."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tremor import platform
from tremor.errors import PlatformError
from tremor.experiments import session
from tremor.platform import Request

LIBRARY = str(Path(platform.__file__).resolve().parents[1])
SETTINGS = {
    "device": "cpu", "dtype": "float32", "attention": "auto", "threads": 1, "tf32": False, "environment": {},
}  # fmt: skip


def fresh(code, **environment):
    """Run in a process in which torch is not loaded yet."""
    head = (
        f"import sys; sys.path.insert(0, {LIBRARY!r})\nfrom tremor import platform\nfrom tremor.platform import Request"
    )
    code = f"{head}\n{code}"
    known = {key: value for key, value in os.environ.items() if key not in platform.NUMERIC_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**known, **environment}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(not platform.cpu_flags(), reason="the flags of this CPU are not known")
def test_an_unknown_instruction_set_is_refused_where_torch_takes_its_default():
    with pytest.raises(PlatformError, match="ATEN_CPU_CAPABILITY=avx3 is unknown to torch on this CPU"):
        platform._check_capability("avx3")


@pytest.mark.parametrize(
    ("name", "value"), [("MKL_CBWR", "BEST"), ("MKL_CBWR", "avx2"), ("ONEDNN_MAX_CPU_ISA", "AVX7")]
)
def test_values_that_a_library_would_ignore_are_refused(name, value):
    status, output = fresh(f"platform.apply(Request(environment={{{name!r}: {value!r}}}))")
    assert status
    assert f"PlatformError: {name}={value} is a value that the library would ignore" in output


def test_known_values_are_applied_and_written_down():
    code = (
        "known = {'ATEN_CPU_CAPABILITY': 'default', 'MKL_CBWR': 'COMPATIBLE'}\n"
        "request = Request(device='cpu', threads=1, environment=known)\n"
        "platform.apply(request)\nfound = platform.fingerprint(request, 'cpu')\n"
        "print(found['applied']['cpu_capability'], found['applied']['environment'])"
    )
    status, output = fresh(code)
    assert status == 0, output
    assert "DEFAULT" in output
    assert "'MKL_CBWR': 'COMPATIBLE'" in output


def test_what_the_shell_says_and_the_platform_does_not_is_unset():
    code = (
        "import os\nfrom tremor.experiments import session\n"
        "session.isolate(Request(environment={'MKL_CBWR': 'AVX2'}))\n"
        "print({k: os.environ.get(k) for k in ('MKL_CBWR', 'ATEN_CPU_CAPABILITY')})"
    )
    status, output = fresh(code, ATEN_CPU_CAPABILITY="avx2", MKL_CBWR="AVX2")
    assert status == 0, output
    assert "ATEN_CPU_CAPABILITY=avx2 is ignored: the platform does not name it" in output
    assert "{'MKL_CBWR': 'AVX2', 'ATEN_CPU_CAPABILITY': None}" in output


def test_too_late_is_an_error(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert "torch" in sys.modules or pytest.importorskip("torch")
    with pytest.raises(PlatformError, match="NVIDIA_TF32_OVERRIDE is set, but not by the platform"):
        session.isolate(session.platform_request(SETTINGS))


def test_a_platform_leaves_its_kernel_to_the_model_or_names_one():
    assert session.platform_request(SETTINGS, attention="eager").attention == "eager"
    assert session.platform_request({**SETTINGS, "attention": "sdpa"}, attention="eager").attention == "sdpa"


def test_other_threads_than_asked_for_are_an_error(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    with pytest.raises(PlatformError, match=r"threads: \d+ was asked for, torch uses"):
        platform.apply(Request(device="cpu", threads=torch.get_num_threads() + 1))
