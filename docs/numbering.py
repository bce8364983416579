"""A Sphinx extension: figures and equations have numbers, their chapter's and their own, and the
prose can name them.

A notebook keeps a figure's caption in the metadata of the cell that draws it, under myst-nb's own
keys:

    "mystnb": {"figure": {"caption": "…"}, "image": {"alt": "what it shows, for those who cannot see
    it"}}

Prose names a figure, or the equation of a Markdown cell, by the id of its cell:
[figure](#cell-id=ID), or [Equation](02_forward_diffusion.ipynb#cell-id=ID) in another chapter.
JupyterLab goes to that cell; in the book the link reads "figure 2.3".
"""

import itertools
import json
import re
from pathlib import PurePosixPath

from docutils import nodes
from sphinx.transforms import SphinxTransform

DISPLAYED = re.compile(r"^\$\$(.+?)\$\$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"\[([Ff]igure|[Ee]quation)\]\(([\w.]*)#cell-id=([\w-]+)\)")


def label(docname: str, cell: str, number: int = 1) -> str:
    """Of the figure of a cell, or of its equation with this number."""
    return f"{PurePosixPath(docname).name}-{cell}".lower() + (f"-{number}" if number > 1 else "")


def read_notebook(app, docname: str, source: list[str]) -> None:
    """Name the notebook's equations, and make roles of the links to cells."""
    if not docname.startswith("notebooks/"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["metadata"]["label"] = label(docname, cell["id"])  # for NamedFigures
            continue
        numbers = itertools.count(1)

        def equation(found: re.Match, cell: str = cell["id"], numbers=numbers) -> str:
            return f"{found[0]} (eq-{label(docname, cell, next(numbers))})"

        def link(found: re.Match) -> str:
            word, file, cell = found.groups()
            name = label(file.removesuffix(".ipynb") or docname, cell)
            return (
                f"{{numref}}`{word} %s <{name}>`"
                if word.lower() == "figure"
                else f"{word} {{eq}}`eq-{name}`"
            )

        cell["source"] = NAMED.sub(link, DISPLAYED.sub(equation, "".join(cell["source"])))
    source[0] = json.dumps(notebook)


class NamedFigures(SphinxTransform):
    """myst-nb makes a figure of all that a cell with a caption shows; what comes before the last
    are progress bars."""

    default_priority = 200  # before Sphinx numbers what has no name

    def apply(self) -> None:
        for cell in self.document.findall(nodes.container):
            if cell.get("nb_element") == "cell_code" and (
                figures := list(cell.findall(nodes.figure))
            ):
                for bar in figures[:-1]:
                    bar.replace_self(bar.children[:-1])
                figures[-1]["names"].append(cell["cell_metadata"]["label"])
                self.document.note_explicit_target(figures[-1], figures[-1])


def number(app, env) -> list[str]:
    """Count figures and equations anew in every chapter; what is no chapter has a letter for its
    number."""
    for docname, kinds in env.toc_fignumbers.items():
        page = PurePosixPath(docname).name
        chapter = str(int(page[:2])) if page[:2].isdigit() else page[0].upper()
        for kind in kinds:
            kinds[kind] = {name: (chapter, n) for n, name in enumerate(kinds[kind], 1)}
    return []


def setup(app) -> dict:
    app.add_transform(NamedFigures)
    app.connect("source-read", read_notebook)
    app.connect("env-get-updated", number, priority=900)  # after Sphinx has counted
    return {"parallel_read_safe": True, "parallel_write_safe": True}
