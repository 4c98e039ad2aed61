"""All parts of exp4 at one model and pair, joined for the summary."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tremor.store.documents import read_json, write_json
from tremor.store.provenance import collect

FIRST = "1"  # the rank of the token that was chosen
NONE = {"mean": None, "std": None}  # where exp4.ranks leaves it out


def join(
    *,
    divergence: Path,
    dimensions: Path,
    embeddings: Path,
    angles: Sequence[Path],
    output: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write the numbers of all parts to one document.

    Args:
        divergence: Document of part 2.
        dimensions: Of part 3.
        embeddings: Of part 6.
        angles: Of part 7, of the first and of the second platform.
        output: JSON file to write.
        provenance: Config, code and input digests.
    """
    parted, read = read_json(divergence), read_json(embeddings)
    found = {side: read_json(path) for side, path in zip("ab", angles, strict=True)}
    document = {
        "pair": parted["pair"],
        "dtype_a": parted["dtypes"][0],
        "dtype_b": parted["dtypes"][1],
        **parted["all"],
        "dimensions": read_json(dimensions)["decisive"],
        "embeddings": {"questions": read["questions"], "equal": read["equal"]},
        "angles": {
            side: {"first": entry["all"].get(FIRST, NONE), "largest_logit_error": entry["largest_logit_error"]}
            for side, entry in found.items()
        },
    }
    write_json(output, document, provenance=collect(seeds=None, platform={}, model={}, **provenance))
