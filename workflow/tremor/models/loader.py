"""Load a model from a folder: safetensors only, no remote code, no network, nothing missing or infinite."""

import importlib.util
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as chatter

from tremor.errors import ConfigError, ModelError, PlatformError
from tremor.models import catalogue, manifest
from tremor.models.anatomy import Anatomy, describe

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}

_ALIGNMENT = 64  # bytes; what torch's allocator gives on the CPU


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for measurement.

    Attributes:
        model: In eval mode; no parameter asks for a gradient.
        tokenizer: Its tokenizer.
        anatomy: Where everything is in it.
        dtype: Type of its parameters.
        device: Where its inputs go; with several devices, that of the embedding.
        attention: "eager" or "sdpa", as applied.
        experts: Kernel of expert layers as applied, None for models without experts.
        digest: Digest over the weight files, as in the manifest.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    anatomy: Anatomy
    dtype: torch.dtype
    device: torch.device
    attention: str
    experts: str | None
    digest: str


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and advice of transformers inside the context; errors still appear."""
    verbosity, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity(logging.ERROR)
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(verbosity)
        if bars:
            chatter.enable_progress_bar()


def pick_device(device: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda" (also "cuda:1") into a device.

    Raises:
        PlatformError: If CUDA is asked for and not there.
        ConfigError: If the name is unknown.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device '{device}' is unknown; use auto, cpu or cuda") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ConfigError(f"device '{device}' is not supported; use auto, cpu or cuda")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise PlatformError(f"device '{device}' was asked for, but torch sees {torch.cuda.device_count()} CUDA devices")
    return chosen


def _model_class(config: Mapping[str, Any], folder: Path) -> type[PreTrainedModel]:
    """The class of transformers for a config; code shipped with a model is never run."""
    kind = config["model_type"]
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    if isinstance(name, (tuple, list)):
        name = name[0]
    if name is not None:
        found: type[PreTrainedModel] = getattr(transformers, name)
        return found
    where = f"{folder / catalogue.CONFIG}: model_type '{kind}'"
    if kind in CONFIG_MAPPING:
        raise ModelError(f"{where} is no causal language model; only decoder-only language models are supported")
    hint = "it needs remote code (auto_map), which is never run; " if "auto_map" in config else ""
    raise ModelError(
        f"{where} is unknown to transformers {transformers.__version__}; {hint}use a supported architecture"
    )


def _attention(requested: str, model_class: type[PreTrainedModel]) -> str:
    if requested not in ("auto", "eager", "sdpa"):
        raise ConfigError(f"attention '{requested}' is unknown; use auto, eager or sdpa")
    supported = bool(model_class._supports_sdpa)
    if requested == "auto":
        return "sdpa" if supported else "eager"
    if requested == "sdpa" and not supported:
        raise ModelError(f"{model_class.__name__} has no sdpa attention; use attention: eager or auto")
    return requested


def _read(folder: Path, model_class: type[PreTrainedModel], options: dict[str, Any]) -> PreTrainedModel:
    """Call transformers, and turn what it reports into one clear error."""
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except SafetensorError as error:
        raise ModelError(f"weights in {folder} are truncated or damaged ({error}); copy or fetch them again") from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise PlatformError(
                f"{folder} does not fit into the device's memory; use a narrower dtype or another device"
            ) from error
        raise ModelError(f"cannot load {folder} as {model_class.__name__}: {error}") from error
    model, report = loaded
    for kind in ("missing_keys", "mismatched_keys"):
        names = sorted(str(name) for name in report.get(kind) or ())
        if names:
            what = "lack" if kind == "missing_keys" else "have another shape for"
            raise ModelError(
                f"weights in {folder} {what} {len(names)} tensor(s) of {model_class.__name__}: "
                f"{', '.join(names[:3])}; weights and config.json do not belong together"
            )
    assert isinstance(model, PreTrainedModel)
    return model


def _check_finite(model: PreTrainedModel, folder: Path) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            kind = "NaN" if bool(torch.isnan(tensor).any()) else f"infinite values (as {tensor.dtype})"
            raise ModelError(
                f"weights in {folder}: tensor '{name}' has {kind}; copy the model again or use another dtype"
            )


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # The Rust tokenizers report a damaged file as a bare Exception.
    except Exception as error:
        raise ModelError(f"cannot load the tokenizer in {folder}: {error}; save it again beside the model") from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def load(
    directory: Path,
    *,
    dtype: str = "float32",
    device: str = "auto",
    attention: str = "auto",
    max_memory: Mapping[int | str, int | str] | None = None,
    digest: str | None = None,
) -> LoadedModel:
    """Load a model, its tokenizer and its anatomy.

    Args:
        directory: The model's folder.
        dtype: "float32", "bfloat16", "float16" or "float64"; weights are cast to it.
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:<n>"; not used with `max_memory`.
        attention: "eager", "sdpa" or "auto" (sdpa where the class has it).
        max_memory: Device to memory, to spread a model over several devices; needs accelerate.
        digest: Digest over the weight files if it is known already; else it is computed.

    Returns:
        The model, ready for measurement.

    Raises:
        ModelError: If files are missing, unsafe, damaged or not understood, or weights are not finite.
        PlatformError: If the device is not there or too small.
        ConfigError: If an option is unknown.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype '{dtype}' is unknown; use one of {', '.join(DTYPES)}")
    config = catalogue.check(directory)
    model_class = _model_class(config, directory)
    for path in catalogue.weight_files(directory):
        manifest.read_header(path)
    applied = _attention(attention, model_class)
    options: dict[str, Any] = {"dtype": DTYPES[dtype], "attn_implementation": applied}
    # The default kernel of expert layers depends on the device and refuses float64: one plain loop for all.
    experts = "eager" if model_class._can_set_experts_implementation() else None
    if experts is not None:
        options["experts_implementation"] = experts
    if max_memory is not None:
        if importlib.util.find_spec("accelerate") is None:
            raise PlatformError("max_memory spreads a model over devices with accelerate, which is not installed")
        options |= {"device_map": "auto", "max_memory": dict(max_memory)}
    with quiet():
        tokenizer = _tokenizer(directory)
        model = _read(directory, model_class, options)
        if max_memory is None:
            model = _move(model, pick_device(device), directory)
        align(model)
        model.eval()
        model.requires_grad_(False)
        _check_finite(model, directory)
        anatomy = describe(model)
    weight = anatomy.embedding.weight
    assert isinstance(weight, torch.Tensor)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        anatomy=anatomy,
        dtype=DTYPES[dtype],
        device=weight.device,
        attention=applied,
        experts=experts if any(part.n_experts for part in anatomy.block_parts) else None,
        digest=digest or manifest.weights_digest(directory),
    )


def align(model: PreTrainedModel) -> None:
    """Copy weights that begin where torch would not put them.

    Weights on the CPU stay where the file has them, at an address that follows the length of its header; and kernels
    take another path, with other roundings, at an address that is no multiple of their vectors. So the same weights,
    saved twice, would give other bits.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % _ALIGNMENT:
            tensor.data = tensor.data.clone(memory_format=torch.preserve_format)


def _move(model: PreTrainedModel, device: torch.device, folder: Path) -> PreTrainedModel:
    try:
        moved = model.to(device)  # type: ignore[arg-type]
    except torch.OutOfMemoryError as error:
        raise PlatformError(
            f"{folder} does not fit into the memory of {device}; use a narrower dtype or another device"
        ) from error
    assert isinstance(moved, PreTrainedModel)
    return moved
