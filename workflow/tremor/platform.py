"""A numerics platform: the device and all else that changes rounding; asked for, applied, written down.

Torch is imported only inside functions, after the environment is set: several libraries read their variables
once, while they are loaded.
"""

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tremor import gpus
from tremor.errors import ArtifactError, PlatformError

DTYPES = ("float32", "bfloat16", "float16", "float64")
ATTENTION = ("auto", "eager", "sdpa")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")

BASE_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS repeats its bits only with a workspace of fixed size
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }
)
"""Set for every job; a request may override."""

NUMERIC_VARIABLES = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "DNNL_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA",
    "KMP_DETERMINISTIC_REDUCTION", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip
"""Variables that change bits, wherever they were set; they belong to the fingerprint."""

# Read by the dynamic loader or the interpreter before any Python runs: setting them here would do nothing.
_BEFORE_PYTHON = re.compile(r"LD_\w+|DYLD_\w+|PYTHON\w+|GLIBC_TUNABLES|MALLOC_\w+")
CAPABILITIES = {
    "default": (),
    "avx2": ("avx2", "fma"),
    "avx512": ("avx512f", "avx512bw", "avx512vl", "avx512dq", "fma"),
}
"""Values of ATEN_CPU_CAPABILITY on x86, and the CPU flags that torch asks for before it uses them by itself."""

# MKL and oneDNN take an unknown value for none, and cannot be asked what they use.
_KNOWN_VALUES = {
    "MKL_CBWR": re.compile(r"(AUTO|COMPATIBLE|SSE2|SSE3|SSSE3|SSE4_1|SSE4_2|AVX|AVX2|AVX512(_E1)?)(,STRICT)?"),
    "ONEDNN_MAX_CPU_ISA": re.compile(
        r"(ALL|DEFAULT|SSE41|AVX|AVX2(_VNNI(_2)?)?|AVX512_CORE(_\w+)?|AVX10_1_512(_AMX)?)"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a job asks of its machine.

    Attributes:
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".
        dtype: of the model's parameters and activations.
        attention: "auto", "eager" or "sdpa"; "auto" is resolved by the model loader.
        threads: CPU threads within an operation; their number changes the order of sums.
        tf32: allow TensorFloat-32 in CUDA matrix products.
        deterministic: refuse operations without a repeatable algorithm.
        environment: variables that must be set before torch is imported, such as ATEN_CPU_CAPABILITY.
    """

    device: str = "auto"
    dtype: str = "float32"
    attention: str = "auto"
    threads: int = 2
    tf32: bool = False
    deterministic: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_device(self.device)
        if self.dtype not in DTYPES:
            raise PlatformError(f"dtype {self.dtype!r} is unknown: use one of {', '.join(DTYPES)}")
        if self.attention not in ATTENTION:
            raise PlatformError(f"attention {self.attention!r} is unknown: use one of {', '.join(ATTENTION)}")
        if self.threads < 1:
            raise PlatformError(f"threads is {self.threads}: use 1 or more")
        object.__setattr__(self, "environment", MappingProxyType({**self.environment}))


def _check_device(device: str) -> None:
    if not _DEVICE.fullmatch(device):
        raise PlatformError(f"device {device!r} is unknown: use auto, cpu, cuda or cuda:N")


def apply(request: Request) -> dict[str, Any]:
    """Set up this process for the request, as early as possible: before torch is imported.

    Args:
        request: what is wanted.

    Returns:
        What torch then reports to be in force: threads, deterministic, tf32, precisions, cpu_capability, ...

    Raises:
        PlatformError: a variable comes too late because torch or Python is running already, or this CPU lacks
            the instructions asked for.
    """
    _set_environment(request)
    import torch

    torch.set_num_threads(request.threads)
    if torch.get_num_interop_threads() != 1:
        # Refused once parallel work has started; it changes scheduling, not results, and the value is
        # reported.
        with suppress(RuntimeError):
            torch.set_num_interop_threads(1)
    # Not warn_only: an operation without a repeatable algorithm shall stop the job, not spoil its numbers.
    torch.use_deterministic_algorithms(request.deterministic)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = request.deterministic
    torch.set_float32_matmul_precision("high" if request.tf32 else "highest")
    torch.backends.cuda.matmul.allow_tf32 = request.tf32
    torch.backends.cudnn.allow_tf32 = request.tf32
    # Sums of half-precision products are kept in float32: the name of a dtype shall mean one thing.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.set_flush_denormal(False)
    state = _torch_state()
    wanted = request.environment.get("ATEN_CPU_CAPABILITY")
    if wanted is not None and state["cpu_capability"].lower() != wanted:
        raise PlatformError(
            f"ATEN_CPU_CAPABILITY={wanted} was asked for, torch uses {state['cpu_capability']}; "
            "start the job in a fresh process, or choose what this CPU offers"
        )
    if state["threads"] != request.threads:
        raise PlatformError(f"threads: {request.threads} was asked for, torch uses {state['threads']}; ask for that")
    for variable, present in (
        ("MKL", torch.backends.mkl.is_available()),
        ("ONEDNN", torch.backends.mkldnn.is_available()),
    ):
        asked = [name for name in request.environment if name.startswith(f"{variable}_")]
        if asked and not present:
            raise PlatformError(f"{asked[0]} was asked for, but this torch is built without {variable}; leave it out")
    return state


def _set_environment(request: Request) -> None:
    started = "torch" in sys.modules
    for name, value in request.environment.items():
        if os.environ.get(name) == value:
            continue
        if _BEFORE_PYTHON.fullmatch(name):
            raise PlatformError(f"{name}={value} acts before Python starts only; export it, then run snakemake again")
        if started:
            raise PlatformError(
                f"{name}={value} must be set before torch is imported, but torch is running with "
                f"{name}={os.environ.get(name, '(unset)')}; run this job in a fresh process"
            )
    _check_capability(request.environment.get("ATEN_CPU_CAPABILITY"))
    for name, pattern in _KNOWN_VALUES.items():
        asked = request.environment.get(name)
        if asked is not None and not pattern.fullmatch(asked):
            raise PlatformError(
                f"{name}={asked} is a value that the library would ignore; see its manual for the values"
            )
    early = {} if started else {"OMP_NUM_THREADS": str(request.threads), "MKL_NUM_THREADS": str(request.threads)}
    os.environ.update({**BASE_ENVIRONMENT, **early, **request.environment})


def _check_capability(wanted: str | None) -> None:
    """Torch believes the variable and would die of an illegal instruction."""
    if wanted is not None and wanted not in CAPABILITIES and cpu_flags():
        known = ", ".join(CAPABILITIES)
        raise PlatformError(f"ATEN_CPU_CAPABILITY={wanted} is unknown to torch on this CPU; use one of {known}")
    flags = cpu_flags()
    missing = [flag for flag in CAPABILITIES.get(wanted or "", ()) if flags and flag not in flags]
    if missing:
        raise PlatformError(f"ATEN_CPU_CAPABILITY={wanted}: this CPU lacks {', '.join(missing)}; choose another value")


def _torch_state() -> dict[str, Any]:
    import torch

    cuda = torch.backends.cuda.matmul
    return {
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "tf32": bool(cuda.allow_tf32 or torch.backends.cudnn.allow_tf32),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "reduced_precision_reduction": bool(
            cuda.allow_bf16_reduced_precision_reduction or cuda.allow_fp16_reduced_precision_reduction
        ),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def resolve_device(device: str) -> str:
    """The device a request means on this machine.

    Of several GPUs, "auto" and "cuda" take one that no other job has, and keep it until the process ends.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        "cpu" or "cuda:N".

    Raises:
        PlatformError: an unknown name, or a CUDA device this machine does not offer.
    """
    _check_device(device)
    import torch

    available = torch.cuda.is_available()
    if device == "cpu" or (device == "auto" and not available):
        return "cpu"
    if not available:
        built = torch.version.cuda is not None
        cause = "no CUDA device is visible" if built else "this torch is built without CUDA"
        remedy = "check nvidia-smi and CUDA_VISIBLE_DEVICES" if built else "install the CUDA build (envs/cuda.yaml)"
        raise PlatformError(f"device {device} was asked for but {cause}: {remedy}, or set device: auto or cpu")
    count = torch.cuda.device_count()
    _, _, number = device.partition(":")
    if number and int(number) >= count:
        raise PlatformError(
            f"device {device} was asked for but {count} CUDA device(s) are visible, "
            "from cuda:0; choose one of them, or set device: auto"
        )
    # A scheduler shows a job its own card only, and one card leaves no choice.
    return f"cuda:{number or (gpus.claim(_cards(count)) if count > 1 else 0)}"


def _cards(count: int) -> list[str]:
    """Identity of each visible card: numbers are relative to what a job may see."""
    import torch

    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(count)]


def fingerprint(request: Request, device: str, *, attention: str | None = None) -> dict[str, Any]:
    """What was asked for and what is in force, without a host name or user.

    Args:
        request: the request given to `apply`.
        device: the resolved device.
        attention: the kernel the loaded model uses; by default the requested one.

    Returns:
        {"requested": {...}, "applied": {...}}, ready for JSON.
    """
    import torch

    requested = as_dict(request)
    built = torch.__config__.show()
    applied = {
        **_device_description(device),
        **_torch_state(),
        "dtype": request.dtype,
        "attention": attention or request.attention,
        "flush_denormal": False,
        "environment": _numeric_environment(request),
        "torch": torch.__version__,
        "transformers": _version("transformers"),
        "numpy": _version("numpy"),
        "torch_config_sha256": hashlib.sha256(built.encode()).hexdigest(),
        # None where torch is built without them: the line is missing then.
        "mkl": _search(r"Math Kernel Library Version (\S+)", built),
        "onednn": _search(r"MKL-DNN v(\S+)", built),
    }
    return {"requested": requested, "applied": applied}


def as_dict(request: Request) -> dict[str, Any]:
    """The request as plain values."""
    plain = {name: getattr(request, name) for name in Request.__dataclass_fields__}
    return {**plain, "environment": dict(request.environment)}


def _numeric_environment(request: Request) -> dict[str, str]:
    names = sorted({*NUMERIC_VARIABLES, *request.environment})
    # Search paths of the loader are part of a machine's identity, not of its arithmetic.
    return {name: os.environ[name] for name in names if name in os.environ and not _BEFORE_PYTHON.fullmatch(name)}


def _device_description(device: str) -> dict[str, Any]:
    if device == "cpu":
        return {"device": "cpu", "device_name": _cpu_info("model name") or "unknown CPU"}
    import torch

    properties = torch.cuda.get_device_properties(device)
    return {
        "device": "cuda",
        "device_name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "cuda_runtime": torch.version.cuda,
        "cuda_driver": _search(r"Kernel Module\s+(?:for \S+\s+)?([\d.]+)", _text("/proc/driver/nvidia/version")),
        "cudnn": torch.backends.cudnn.version(),
    }


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _search(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1) if found else None


def _cpu_info(key: str) -> str:
    return _search(rf"(?m)^{key}\s*:\s*(.*)$", _text("/proc/cpuinfo")) or ""


def cpu_flags() -> list[str]:
    """Flags of an x86 CPU under Linux; empty elsewhere."""
    return _cpu_info("flags").split()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


_NUMERIC_KEYS = (
    "device", "device_name", "compute_capability", "multiprocessors", "cpu_capability", "threads", "dtype",
    "attention", "tf32", "float32_matmul_precision", "reduced_precision_reduction", "deterministic",
    "environment", "torch", "transformers", "mkl", "onednn", "cuda_runtime", "cudnn",
)  # fmt: skip


def numerics_key(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a fingerprint that may change bits: platforms with equal keys should agree bit for bit."""
    applied = fingerprint["applied"]
    return {name: applied[name] for name in _NUMERIC_KEYS if name in applied}


def require_same(
    ancestor: Mapping[str, Any], current: Mapping[str, Any], *, path: Path | str, rule: str | None = None
) -> None:
    """Refuse to continue an artifact on another platform than it was made on.

    Args:
        ancestor: fingerprint in the ancestor's provenance.
        current: fingerprint of this job.
        path: the ancestor.
        rule: the rule that makes the ancestor, for the remedy.

    Raises:
        ArtifactError: the platforms differ; lists each difference with both values.
    """
    if "applied" not in ancestor:
        raise ArtifactError(f"{path} does not say on which platform it was made; {_remake(rule)}")
    before, now = numerics_key(ancestor), numerics_key(current)
    differing = [
        f"{name} {before.get(name)!r} there, {now.get(name)!r} here"
        for name in _NUMERIC_KEYS
        if before.get(name) != now.get(name)
    ]
    if differing:
        raise ArtifactError(
            f"{path} was made on another platform: {'; '.join(differing)}. {_remake(rule).capitalize()}"
        )


def _remake(rule: str | None) -> str:
    return (
        f"make it again here: run snakemake with `--forcerun {rule}`" if rule else "make it again here with snakemake"
    )
