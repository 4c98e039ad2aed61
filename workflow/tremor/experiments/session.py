"""A session: one platform applied, one model loaded and checked against its manifest, and provenance for its work."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tremor import platform
from tremor.errors import PlatformError
from tremor.store.provenance import collect


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
        return collect(config=config, code=code, inputs=inputs, seeds=seeds, platform=self.fingerprint, model=model)


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
    platform.apply(request)
    device = platform.resolve_device(request.device)
    # Only now: these import torch, which reads its environment once.
    from tremor.models import loader
    from tremor.models import manifest as manifests

    found = manifests.read(manifest)
    manifests.verify(found, directory)
    loaded = loader.load(
        directory, dtype=dtype, device=device, attention=attention, digest=str(found["weights_digest"])
    )
    return Session(
        loaded=loaded,
        manifest=found,
        fingerprint=platform.fingerprint(request, device, attention=loaded.attention),
        max_memory=_bytes(probe["max_memory"], device),
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


def _bytes(limit: float | str, device: str) -> float:
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
