"""Open a model: by its alias, from a folder, or from memory. Torch comes only when the platform is set up."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tremor import platform
from tremor.api import places
from tremor.api.model import Model
from tremor.config import Config
from tremor.errors import ConfigError
from tremor.experiments.session import Session, isolate, memory_bytes, platform_request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load(
    source: Any,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    *,
    name: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    attention: str | None = None,
    threads: int | None = None,
    platform_name: str | None = None,
    config: places.Settings = None,
    project: Path | str | None = None,
) -> Model:
    """Open a model.

    Args:
        source: Alias of a model in the configuration, such as ``"llama"``; a folder, as ``save_pretrained`` writes it;
            or a model of transformers that is in memory already.
        tokenizer: The tokenizer of a model in memory.
        name: What to call it.
        dtype: "float32", "bfloat16", "float16" or "float64"; None for the configuration's.
        device: "auto", "cpu", "cuda" or "cuda:N"; None for the configuration's.
        attention: "auto", "eager" or "sdpa"; None for the configuration's.
        threads: Threads of torch; None for the configuration's. Their number changes the last bits.
        platform_name: One of the configuration's ``platforms``, instead of the four above; what it asks of the
            environment must be set before torch is imported, so load such a model first.
        config: Blocks of the configuration that differ, or a YAML file instead of ``config/config.yaml``.
        project: Folder that Snakemake is run in; None for the nearest one upwards.

    Returns:
        The model; this process then computes on the model's platform: deterministic kernels, that many threads.

    Raises:
        ModelError: it has not been built yet (the message says how to), or cannot be loaded or understood.
        ConfigError: no such model or option.
        PlatformError: the platform cannot be had here.
        ArtifactError: the weights are not those of the manifest.
    """
    home = places.find_project() if project is None else Path(project)
    settings = places.read_config(home, config)
    options = {"dtype": dtype, "device": device, "attention": attention, "threads": threads}
    if platform_name is not None and any(value is not None for value in options.values()):
        raise ConfigError("platform_name says device, dtype, attention and threads; leave these out")
    if not isinstance(source, (str, Path)):
        return _adopted(source, tokenizer, name or type(source).__name__, options, platform_name, settings)
    if tokenizer is not None:
        raise ConfigError("a model on disk comes with its tokenizer; leave tokenizer out")
    place = places.locate(source, home, settings)
    request = _request(settings, options, platform_name, dtype=place.dtype, attention=place.attention)
    places.apply(request)
    resolved = platform.resolve_device(request.device)
    with warnings.catch_warnings():
        # A package that transformers uses misses widgets for its progress bars; they are silenced anyway.
        warnings.filterwarnings("ignore", message="IProgress not found")
        from tremor.models import loader  # imports torch, for which the platform has been set up

    digest = str(place.manifest["weights_digest"])
    found = loader.load(place.folder, dtype=request.dtype, device=resolved, attention=request.attention, digest=digest)
    return _model(name or place.name, found, place.manifest, request, resolved, settings)


def _adopted(
    source: Any,
    tokenizer: Any,
    name: str,
    options: Mapping[str, Any],
    platform_name: str | None,
    settings: Config,
) -> Model:
    if tokenizer is None:
        raise ConfigError("a model in memory needs its tokenizer: tremor.load(model, tokenizer)")
    if platform_name is not None or any(options[key] is not None for key in ("dtype", "device", "attention")):
        raise ConfigError("a model in memory has its type, device and attention already; load it as you want it")
    from tremor.api.adopt import adopt, describe_in_memory

    found = adopt(source, tokenizer)
    dtype = str(found.dtype).removeprefix("torch.")
    where = "cpu" if found.device.type == "cpu" else f"{found.device.type}:{found.device.index or 0}"
    asked = {**options, "device": where, "dtype": dtype, "attention": found.attention}
    request = _request(settings, asked, None, dtype=dtype, attention=found.attention)
    places.apply(request)
    return _model(name, found, describe_in_memory(found, name), request, where, settings)


def _request(
    settings: Config, options: Mapping[str, Any], platform_name: str | None, *, dtype: str, attention: str
) -> platform.Request:
    if platform_name is None:
        default = {
            "device": settings.probe.device,
            "dtype": dtype,
            "attention": attention,
            "threads": settings.probe.threads,
        }
        return platform.Request(**{**default, **{key: value for key, value in options.items() if value is not None}})
    if platform_name not in settings.platforms:
        raise ConfigError(
            f"there is no platform {platform_name!r}; the configuration has {', '.join(settings.platforms)}"
        )
    request = platform_request(settings.platforms[platform_name].model_dump(mode="json"), attention=attention)
    isolate(request)
    return request


def _model(
    name: str, found: Any, manifest: Mapping[str, Any], request: platform.Request, device: str, settings: Config
) -> Model:
    session = Session(
        loaded=found,
        manifest=manifest,
        fingerprint=platform.fingerprint(request, device, attention=found.attention),
        max_memory=memory_bytes(settings.probe.max_memory, device),
    )
    return Model(name, session, settings, request)


def train(name: str, *, config: places.Settings = None, project: Path | str | None = None) -> Model:
    """Train an embedded model as the workflow does, into ``resources/models/<name>``, and open it.

    It takes a minute or two on one core, and gives the weights that the workflow's rule gives.

    Args:
        name: Alias of an embedded model in the configuration: "llama", "gpt2", "mamba".
        config: As of :func:`load`.
        project: As of :func:`load`.

    Raises:
        ConfigError: no embedded model of that name.
        NumericsError: it did not learn what it must know; nothing is written.
    """
    home = places.find_project() if project is None else Path(project)
    settings = places.read_config(home, config)
    entry = settings.models.get(name)
    if entry is None or entry.source != "embedded":
        known = [alias for alias, other in settings.models.items() if other.source == "embedded"]
        raise ConfigError(f"there is no embedded model {name!r}; there are {', '.join(known)}")
    from tremor.models import embedded

    own = settings.training
    folder = home / "resources/models" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    embedded.train(entry.architecture, folder, seed=own.seed, threads=own.threads, min_recall=own.min_recall)
    return load(name, config=config, project=home)
