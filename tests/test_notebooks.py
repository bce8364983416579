"""Rules that hold for every notebook. That they run, and what they assert, `make test` checks with
nbval."""

import ast
import functools
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from reading_order import PACKAGE, docstring, faces, modules, reading_order

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ASSIGNMENTS = sorted((ROOT / "assignments").glob("*.ipynb"))
PROSE = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md")])
BOOK = yaml.safe_load((ROOT / "book.yml").read_text())
PAGES = [BOOK["root"], *(page["file"] for part in BOOK["parts"] for page in part["chapters"])]
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
DISTILS = BOOK["meta"]["distils"]

notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[str]:
    """The source of each code cell, without IPython's magics and shell lines."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [
        "\n".join(line for line in source.splitlines() if line.lstrip()[:1] not in "%!")
        for source in sources
    ]


def as_committed(path: Path) -> dict:
    """The notebook as git has it: a reader who ran and saved it has outputs, which is no fault."""
    name = path.relative_to(ROOT).as_posix()
    shown = subprocess.run(["git", "show", f":{name}"], cwd=ROOT, capture_output=True)
    return json.loads(shown.stdout if shown.returncode == 0 else path.read_bytes())


def names_in(tree: ast.AST) -> set[str]:
    """Every name that the code uses, attributes too."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


def test_book_and_folder_hold_the_same_chapters():
    assert CHAPTERS == sorted(set(CHAPTERS)), "in their order, each once"
    assert CHAPTERS == [f"notebooks/{path.stem}" for path in NOTEBOOKS]


@notebooks
def test_is_committed_without_outputs(path):
    notebook = as_committed(path)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells), "run `make strip`"
    assert all(cell["execution_count"] is None for cell in cells), "run `make strip`"
    assert "widgets" not in notebook["metadata"], "it holds the state of widgets"


@notebooks
def test_opens_with_a_title_and_runs_on_any_python3_kernel(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown" and "".join(first["source"]).startswith("# ")
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert (notebook["nbformat"], notebook["nbformat_minor"]) >= (4, 5), (
        "cells have ids from 4.5 on"
    )


@notebooks
def test_asserts_at_least_three_claims(path):
    trees = [ast.parse(source) for source in code_cells(path)]
    assert sum(isinstance(node, ast.Assert) for tree in trees for node in ast.walk(tree)) >= 3


@notebooks
def test_no_code_cell_is_longer_than_45_lines(path):
    assert max(len(source.splitlines()) for source in code_cells(path)) <= 45


@notebooks
def test_figures_have_captions_and_links_between_cells_lead_somewhere(path):
    """docs/numbering.py makes numbered figures of the first and numbered references of the
    second."""
    shown = [
        cell["metadata"]["mystnb"]
        for cell in cells_of(path.name).values()
        if "mystnb" in cell["metadata"]
    ]
    captions = [one["figure"]["caption"] for one in shown]
    assert len(captions) >= 3 and len(set(captions)) == len(captions)
    assert all(caption.endswith((".", "?")) for caption in captions)
    described = {one["image"]["alt"].strip() for one in shown if "image" in one}
    assert "" not in described and not described & set(captions)

    prose = [cell for cell in cells_of(path.name).values() if cell["cell_type"] == "markdown"]
    links = re.findall(r"\[([^]]*)\]\(([^)#]*)#cell-id=([^)]*)\)", "\n".join(map(source_of, prose)))
    for word, file, name in links:
        cell = cells_of(file or path.name)[name]
        if word.lower() == "figure":
            assert "caption" in cell["metadata"].get("mystnb", {}).get("figure", {}), (file, name)
        else:
            assert word.lower() == "equation" and source_of(cell).count("$$") == 2, (file, name)
    assert links


@functools.cache
def cells_of(name: str) -> dict[str, dict]:
    cells = json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8"))["cells"]
    return {cell["id"]: cell for cell in cells}


def source_of(cell: dict) -> str:
    return "".join(cell["source"])


@pytest.mark.parametrize("chapter", sorted(DISTILS))
def test_a_chapter_compares_what_it_built_with_the_package_and_imports_it(chapter):
    trees = [ast.parse(source) for source in code_cells(ROOT / f"{chapter}.ipynb")]
    imports = [
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    ]
    attributes = [
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    ]
    used = {(node.module or "", alias.name) for node in imports for alias in node.names}
    used |= {
        (f"minildm.{node.value.id}", node.attr)
        for node in attributes
        if isinstance(node.value, ast.Name)
    }
    assert set(DISTILS[chapter]) <= {module_behind(*name) for name in used}

    testing = [
        alias for node in imports if node.module == "minildm.testing" for alias in node.names
    ]
    helpers = {alias.asname or alias.name for alias in testing}
    assert helpers & {name for tree in trees for name in names_in(tree)}, (
        "it calls nothing of minildm.testing"
    )


@functools.cache
def module_behind(door: str, name: str) -> str | None:
    """`models.unet`, where a name comes from that minildm or one of its packages hands on."""
    handed = faces()
    if door == "minildm":
        return next((names[name] for names in handed.values() if name in names), None)
    return handed.get(door.removeprefix("minildm."), {}).get(name)


def test_every_chapter_says_what_it_distils():
    assert set(DISTILS) <= set(CHAPTERS)
    for distilled in DISTILS.values():
        assert set(distilled) <= set(modules())


def chapters_named(text: str) -> set[str]:
    """`03` and `05` in "Chapters 03 and 05."."""
    lists = re.findall(r"[Cc]hapters? ((?:\d\d(?:, | and )?)+)", " ".join(text.split()))
    return {number for numbers in lists for number in re.findall(r"\d\d", numbers)}


@functools.cache
def using_chapters() -> dict[str, set[str]]:
    """Module -> the numbers of the chapters that import something of it."""
    using: dict[str, set[str]] = {}
    for path in NOTEBOOKS:
        for node in (node for source in code_cells(path) for node in ast.walk(ast.parse(source))):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    module = module_behind(node.module or "", alias.name)
                    file = (node.module or "").removeprefix("minildm.")
                    using.setdefault(module or file, set()).add(path.stem[:2])
    return using


@pytest.mark.parametrize("module", modules())
def test_a_module_names_the_chapters_that_distil_it_or_else_one_that_uses_it(module):
    """In its docstring; CONTRIBUTING.md says the rule."""
    path = PACKAGE.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    named = chapters_named(docstring(file))
    assert named <= {path.stem[:2] for path in NOTEBOOKS}, "there is no such chapter"
    distilling = {
        chapter.removeprefix("notebooks/")[:2]
        for chapter, distilled in DISTILS.items()
        if module in distilled
    }
    assert distilling <= named, f"book.yml: distilled by {sorted(distilling)}; it names {named}"
    if not distilling and module in using_chapters():
        assert named & using_chapters()[module], f"used in {using_chapters()[module]}"


def doors() -> set[str]:
    """What readers import from: minildm, its packages and the files at its door."""
    packages = {f"minildm.{package}" for package in filter(None, reading_order())}
    return {"minildm", *packages, *(f"minildm.{file}" for file in reading_order()[""])}


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_in_prose_imports_from_packages_too(path):
    text = path.read_text(encoding="utf-8")
    imported = re.findall(r"(?:from|import) (minildm[\w.]*)(?: import|\n|$)", text)
    assert set(imported) <= doors()


@pytest.mark.parametrize("path", [*NOTEBOOKS, *ASSIGNMENTS], ids=lambda path: path.stem)
def test_a_notebook_imports_from_packages_never_from_their_files(path):
    nodes = [node for source in code_cells(path) for node in ast.walk(ast.parse(source))]
    froms = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    } | froms
    assert {name for name in imported if name.partition(".")[0] == "minildm"} <= doors()
