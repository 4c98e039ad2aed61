"""The site must open without a network: a page that would load something from elsewhere fails the build."""

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

# What a browser fetches by itself, unlike a link that a reader follows.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|icon|preconnect|modulepreload))[^>]*\bhref=["']?(?:https?:)?//""",
    re.IGNORECASE,
)
FETCHED_BY_STYLE = re.compile(r"""(?:@import\s+(?:url\()?|url\()["']?(?:https?:)?//""", re.IGNORECASE)


def fetched(folder: Path) -> list[str]:
    """Files of a site that make a browser ask another machine.

    Args:
        folder: the built site.

    Returns:
        Their names below the folder, each with what it would fetch.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        pattern = {".html": FETCHED, ".css": FETCHED_BY_STYLE}.get(path.suffix)
        match = pattern.search(path.read_text(encoding="utf-8")) if pattern else None
        if match:
            found.append(f"{path.relative_to(folder)}: {match[0]}")
    return found


def check(app: Sphinx, exception: Exception | None) -> None:
    """Look at the finished site."""
    if exception is None and app.builder.name == "html" and (found := fetched(Path(app.outdir))):
        raise ExtensionError("the site would load files from the network: " + "; ".join(found))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the check."""
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
