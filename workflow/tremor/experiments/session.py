"""A session: one platform applied, one model loaded and checked against its manifest, and provenance for its work."""

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tremor import memory, platform
from tremor.errors import PlatformError
from tremor.store.provenance import collect

PLATFORM_MEMORY_GIB = 2.0  # for transient tensors of a job on a platform, where the rule says nothing else
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """A loaded model on an applied platform."""

    loaded: Any  # models.loader.LoadedModel; typed Any because that module imports torch
    manifest: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    max_memory: float  # bytes for transient tensors

    def provenance(
        self,
        *,
        config: Mapping[str, Any],
        code: str,
        inputs: Mapping[str, str],
        seeds: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """Provenance of an artifact made in this session."""
        model = {
            name: self.manifest.get(name)
            for name in ("alias", "source", "repo", "revision", "weights_digest", "tokenizer_digest")
        }
        found = collect(
            config=config, code=code, inputs=inputs, seeds=seeds or None, platform=self.fingerprint, model=model
        )
        # Rows of batches for which memory did not suffice: why a batch is smaller than on another day.
        return {**found, "out_of_memory_rows": memory.shortages()}


def open_session(*, manifest: Path, directory: Path, dtype: str, attention: str, probe: Mapping[str, Any]) -> Session:
    """Apply the platform, then load the model and check that it is the one of the manifest.

    Args:
        manifest: The model's manifest.
        directory: The folder with its weights.
        dtype: Type the model runs in.
        attention: ``auto``, ``eager`` or ``sdpa``.
        probe: The config block ``probe``.

    Raises:
        PlatformError: the platform cannot be had.
        ModelError: the model cannot be loaded.
        ArtifactError: the weights are not those of the manifest.
    """
    request = platform.Request(device=probe["device"], dtype=dtype, attention=attention, threads=int(probe["threads"]))
    return _open(request, manifest=manifest, directory=directory, max_memory=probe["max_memory"])


def _open(request: platform.Request, *, manifest: Path, directory: Path, max_memory: float | str) -> Session:
    platform.apply(request)
    device = platform.resolve_device(request.device)
    # Only now: these import torch, which reads its environment once.
    from tremor.models import loader
    from tremor.models import manifest as manifests

    found = manifests.read(manifest)
    manifests.verify(found, directory)
    loaded = loader.load(
        directory,
        dtype=request.dtype,
        device=device,
        attention=request.attention,
        digest=str(found["weights_digest"]),
    )
    return Session(
        loaded=loaded,
        manifest=found,
        fingerprint=platform.fingerprint(request, device, attention=loaded.attention),
        max_memory=memory_bytes(max_memory, device),
    )


def platform_request(settings: Mapping[str, Any], *, attention: str = "auto") -> platform.Request:
    """The request of a configured platform.

    Args:
        settings: Its entry in the configuration, as `graph.platform` gives it.
        attention: Attention kernel of the model, for platforms that leave it to the model.
    """
    own = str(settings["attention"])
    return platform.Request(
        device=str(settings["device"]),
        dtype=str(settings["dtype"]),
        attention=attention if own == "auto" else own,
        threads=int(settings["threads"]),
        tf32=bool(settings["tf32"]),
        environment=dict(settings["environment"]),
    )


def isolate(request: platform.Request) -> None:
    """Unset variables of the user's shell that change bits and that a platform does not name: it is what it says.

    Raises:
        PlatformError: it is too late, because torch has read them.
    """
    for name in platform.NUMERIC_VARIABLES:
        if name not in os.environ or name in request.environment or name in platform.BASE_ENVIRONMENT:
            continue
        if "torch" in sys.modules:
            raise PlatformError(f"{name} is set, but not by the platform: unset it, or name it in its environment")
        _log.warning("%s=%s is ignored: the platform does not name it", name, os.environ.pop(name))


def open_platform(
    *,
    manifest: Path,
    directory: Path,
    settings: Mapping[str, Any],
    attention: str = "auto",
    max_memory: float | str = PLATFORM_MEMORY_GIB,
) -> Session:
    """Open a session on a configured platform.

    Args:
        manifest: The model's manifest.
        directory: The folder with its weights.
        settings: The platform's entry in the configuration.
        attention: Attention kernel of the model, for platforms that leave it to the model.
        max_memory: GiB for transient tensors, or ``auto``.

    Raises:
        PlatformError: the platform cannot be had here.
        ModelError: the model cannot be loaded.
        ArtifactError: the weights are not those of the manifest.
    """
    request = platform_request(settings, attention=attention)
    isolate(request)
    return _open(request, manifest=manifest, directory=directory, max_memory=max_memory)


def open_platform_job(inputs: Any, params: Any) -> Session:
    """Open the session that a job on a platform asks for.

    Args:
        inputs: Has the path ``manifest``.
        params: Has ``directory``, ``attention`` and ``platform`` (from `graph.platform`).
    """
    return open_platform(
        manifest=inputs.manifest,
        directory=Path(params.directory),
        settings=params.platform,
        attention=params.attention,
    )


def open_job(inputs: Any, params: Any, *, dtype: str) -> Session:
    """Open the session that a job of the workflow asks for.

    Args:
        inputs: Has the path ``manifest``.
        params: Has ``directory``, ``attention`` and ``probe``.
        dtype: Type the model runs in.
    """
    return open_session(
        manifest=inputs.manifest,
        directory=Path(params.directory),
        dtype=dtype,
        attention=params.attention,
        probe=params.probe,
    )


def memory_bytes(limit: float | str, device: str) -> float:
    """``max_memory`` of the config in bytes; ``auto`` is half of what is free now."""
    if limit != "auto":
        return float(limit) * 2**30
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free / 2
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
    except OSError as error:  # a system other than Linux
        raise PlatformError("probe.max_memory: auto cannot find out what is free here; set a number of GiB") from error
    return int(fields["MemAvailable"].split()[0]) * 1024 / 2
