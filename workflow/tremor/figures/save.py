"""Save figures so that the same data give the same bytes, and no reader ever sees half a file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tremor.errors import ConfigError
from tremor.figures import style
from tremor.store.atomic import replacing

SOFTWARE = "Tremor"
_MODEL_KEYS = ("weights_digest", "tokenizer_digest", "revision")
_KEYS = ("config", "code", "seeds", "platform", "libraries", "python", "tremor")


def short_provenance(provenance: Mapping[str, Any] | None) -> str:
    """The part of a provenance that is the same for the same work, as compact JSON in ASCII.

    What is volatile (times, memory, the commit) and the digests of input files are left out: those files hold the time
    of their making, and a figure would change with it.

    Args:
        provenance: As of ``tremor.store.provenance.collect`` or ``tremor.job.provenance``; None for none.

    Returns:
        JSON of config, code digest, seeds, platform, library versions and the model's digests, as far as they are
        known; "" where none is.
    """
    if not provenance:
        return ""
    found: dict[str, Any] = {key: provenance[key] for key in _KEYS if provenance.get(key)}
    model = provenance.get("model") or {}
    digests = {key: str(model[key]) for key in _MODEL_KEYS if model.get(key)}
    if digests:
        found["model"] = digests
    return json.dumps(found, sort_keys=True, separators=(",", ":"), default=str) if found else ""


def _metadata(suffix: str, origin: str) -> dict[str, Any]:
    if suffix == ".png":
        return {"Software": SOFTWARE, **({"Comment": origin} if origin else {})}
    if suffix == ".pdf":  # None removes what would hold the time or the version of a library
        fixed = {"Creator": SOFTWARE, "Producer": SOFTWARE, "CreationDate": None}
        return {**fixed, **({"Keywords": origin} if origin else {})}
    return {"Creator": SOFTWARE, "Date": None, **({"Description": origin} if origin else {})}


def save(
    figure: Figure, paths: Sequence[Path | str], *, provenance: Mapping[str, Any] | None = None, dpi: float = 150
) -> None:
    """Write a figure to each path, byte for byte the same for the same figure, libraries and fonts.

    The layout is solved once, before the first file, and then fixed, so that a file's bytes do not depend on which
    others are asked for.

    Args:
        figure: Drawn by a function of this package.
        paths: Files to write; the suffix (.png, .pdf or .svg) chooses the format.
        provenance: Of the figure's data; its stable part is embedded (see :func:`short_provenance`).
        dpi: Resolution of PNG files, dots per inch.

    Raises:
        ConfigError: a path has another suffix.
        ArtifactError: the disk is full or read-only; older files are intact.
    """
    targets = [Path(path) for path in paths]
    for path in targets:
        if path.suffix not in (".png", ".pdf", ".svg"):
            raise ConfigError(f"cannot save a figure as {path}: choose png or pdf in figures.formats")
    origin = short_provenance(provenance)
    with style.look():
        engine = figure.get_layout_engine()
        for _ in range(2):  # round axes and wide tick labels only settle in the second pass
            if engine is not None:
                engine.execute(figure)
        figure.set_layout_engine("none")
        for path in targets:
            with replacing(path) as temporary:
                form = path.suffix[1:]
                figure.savefig(temporary, format=form, dpi=dpi, metadata=_metadata(path.suffix, origin))
