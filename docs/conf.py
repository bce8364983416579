"""The book: Sphinx reads book.yml, the chapters and the pages beside this file; `make book`."""

import hashlib
import os
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))

from chapters import table  # noqa: E402
from hosting import fetch, repository, theme_options  # noqa: E402
from reading_order import api_page  # noqa: E402
from references import address, citations, entries  # noqa: E402

# made anew from the tree in minildm/__init__.py
(ROOT / "docs" / "api.md").write_text(api_page(), encoding="utf-8")
PAGES = yaml.safe_load((ROOT / "book.yml").read_text(encoding="utf-8"))
PACE = os.environ.setdefault("MINILDM_PACE", "course")

project, author, copyright = (PAGES["meta"][key] for key in ("title", "author", "copyright"))
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx.ext.githubpages",  # .nojekyll: some hosts hide folders that begin with an underscore
    "sphinx_external_toc",
    "sphinxcontrib.bibtex",  # lists the works of references.bib
    "sphinx-mathjax-offline",  # MathJax from the book's own folder
    "numbering",
]
exclude_patterns = [".*", "_build", "runs", "dist"]
external_toc_path = str(ROOT / "book.yml")
external_toc_exclude_missing = True
bibtex_bibfiles = ["references.bib"]
numfig = math_numfig = True
numfig_format = {"figure": "Figure %s"}
myst_enable_extensions = ["dollarmath", "deflist", "attrs_inline", "substitution"]
myst_dmath_double_inline = True
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static", "../_build/static"]
html_css_files = ["book.css"]
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": True,
    "navigation_with_keys": False,
    "navbar_persistent": [],  # the search is at the side: no bar across the page with a second one
    **theme_options(repository()),
}
html_show_sourcelink = False

# What draws on the front page; browser/build.py has made it, or has left a note that says why not.
SNIPPET = ROOT / "_build" / "static" / "draw" / "snippet.html"
myst_substitutions = {
    "draw": SNIPPET.read_text(encoding="utf-8").replace('"_static/', '"../_static/'),
    "fetch": fetch(repository()),
    "chapters": table("../notebooks/"),
}


# Notebooks are executed once for each state of what they import and read, and kept in _build until
# that changes.


def state_of_the_course() -> str:
    """A name for all that an execution depends on beside the notebook itself."""
    package = ROOT / "minildm"
    # scripts and styles travel with the widgets that are shown
    kinds = ("*.py", "*.js", "*.css", "*.safetensors")
    files = [file for kind in kinds for file in package.rglob(kind)]
    digest = hashlib.sha256(PACE.encode())
    for file in sorted([*files, *(ROOT / "benchmarks").glob("*.json")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


# "off": the pages without what the chapters print
nb_execution_mode = os.environ.get("BOOK_EXECUTION", "cache")
nb_execution_cache_path = str(ROOT / "_build" / "executed" / state_of_the_course())
# of notebooks to leave as they are
nb_execution_excludepatterns = os.environ.get("BOOK_EXCEPT", "").split()
if nb_execution_mode == "off" or nb_execution_excludepatterns:
    suppress_warnings += ["ref.numref"]  # a figure that nobody drew has no number to be named by
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
# moves them without a kernel and without a server
nb_ipywidgets_js = {"widgets.js": {"defer": "defer"}}


# The docstrings are plain text: a line of meaning, then what holds for the arguments.


def with_links(text: str) -> str:
    """The text, escaped, with each citation a link to the work."""
    parts, last = [], 0
    for found, name in citations(text):
        parts += [text[last : found.start()], f"`{found[0]} <{address(entries()[name])}>`__"]
        last = found.end()
    parts += [text[last:]]
    parts[::2] = [re.sub(r"([*|_\\])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def as_restructured_text(app, what, name, obj, options, lines) -> None:
    """Escape what reStructuredText would read as markup, link the works that are cited, and keep
    each `argument: …` a line of its own."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines).strip())
    lines[:] = []
    for paragraph in filter(None, paragraphs):
        items: list[str] = []
        for line in paragraph.splitlines():
            begins = (
                not items
                or re.match(r"\S[^:]{0,60}: ", line)
                or re.match(r"\s*(?!(19|20)\d\d\b)[-|\d\"]", line)  # but no year of a citation
            )
            if begins:
                items.append(line.strip())
            else:
                items[-1] += " " + line.strip()
        for item in items:
            code = re.split(r"`+([^`]+)`+", item)
            code[::2] = [with_links(text) for text in code[::2]]
            code[1::2] = [f"\\ ``{text}``\\ " for text in code[1::2]]
            lines += [f"| {''.join(code)}"]
        lines.append("")


autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}
autodoc_mock_imports: list[str] = []


def setup(app) -> None:
    app.connect("autodoc-process-docstring", as_restructured_text)
