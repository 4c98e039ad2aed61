"""How Sphinx builds this documentation (make docs): one site that opens without a network.

The pages are written for two readers at once, GitHub and the site. So links between pages are relative links to
files, what belongs to the site alone stands here: the index's tables become the navigation, and the manual of the
configuration, which lies beside what it describes, becomes a page.
"""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
MANUAL = ROOT / "config/README.md"
GENERATED = "_generated"
# Modules by the heading of docs/api.md that they stand under. A page for each heading: Furo writes the whole
# navigation on every page, so that a page for each module would take three times as long.
LIBRARY = {
    section.splitlines()[0]: re.findall(r"(?m)^   (tremor\.[\w.]+)$", section)
    for section in re.split(r"(?m)^## ", (DOCS / "api.md").read_text(encoding="utf-8"))[1:]
}
DOCUMENTED = "|".join(re.escape(module) for modules in LIBRARY.values() for module in modules)
sys.path[:0] = [str(ROOT / "workflow"), str(DOCS / "_extensions")]

import docstrings  # noqa: E402

import tremor  # noqa: E402

project = "Tremor"
author = "the authors of Tremor"
project_copyright = "MIT licence"
version = release = tremor.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docstrings",
    "offline",
]
exclude_patterns = ["_build", "notebooks"]  # a notebook is a file to take along

# Headings get the anchors that GitHub gives them, down to the level that pages link to.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

# Formulas are written as indented text, which reads the same in a terminal, on GitHub and here, and needs no script.
highlight_language = "text"
copybutton_prompt_text = "$ "

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "undoc-members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
default_role = "code"
add_module_names = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 100

# Every name of a module that has a page must lead somewhere. Names of other libraries would need their inventories
# from the network; constants, private classes and type variables have no entry.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", rf"(?!(?:{DOCUMENTED})\.).*"),
    (r"py:class", r".*\.(?:_\w+|[A-Z])"),
    (r"py:data", r".*"),
]

html_theme = "furo"
html_title = f"Tremor {release}"
html_static_path = ["_static"]
html_css_files = ["tremor.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False


def navigation(index: str) -> str:
    """The index with a hidden table of contents for each of its sections, made from the pages that it links to.

    Args:
        index: Markdown of docs/index.md.

    Returns:
        The same, followed by the directives.
    """
    trees = []
    for section in re.split(r"(?m)^## ", index)[1:]:
        caption = section.splitlines()[0]
        pages = list(dict.fromkeys(re.findall(r"\]\(([\w/-]+)\.md\)", section)))
        if pages:
            trees.append(tree(pages, caption))
    return "\n".join([index, *trees])


def tree(pages: list[str], caption: str | None = None) -> str:
    """A hidden table of contents, in Markdown."""
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["```{toctree}", *options, "", *pages, "```", ""])


def library(app: Sphinx) -> None:
    """Write a page for each heading of docs/api.md, with the docstrings of its modules."""
    folder = DOCS / GENERATED
    folder.mkdir(exist_ok=True)
    for heading, modules in LIBRARY.items():
        parts = [heading, "=" * len(heading), ""]
        for module in modules:
            parts += [module, "-" * len(module), "", f".. automodule:: {module}", ""]
            docstrings.describe(module)
        page = folder / f"{slug(heading)}.rst"
        text = "\n".join(parts)
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def slug(heading: str) -> str:
    """The name of a heading's page."""
    return re.sub(r"\W+", "-", heading.lower())


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """What a page says on the site where it cannot be the same as in the repository."""
    if page == "configuration":
        app.env.note_dependency(str(MANUAL))
        source[0] = MANUAL.read_text(encoding="utf-8")
    source[0] = source[0].replace("](../config/README.md", "](configuration.md")
    if page == "index":
        # On GitHub a link by the file's name is helpful; here it is a title's place.
        source[0] = navigation(re.sub(r"\[([\w-]+)\.md\]\(", r"[\1](", source[0]))
    if page == "api":
        source[0] += "\n" + tree([f"{GENERATED}/{slug(heading)}" for heading in LIBRARY])


def setup(app: Sphinx) -> None:
    """Connect the hooks."""
    app.connect("builder-inited", library)
    app.connect("source-read", read)
