"""The book's own pages: complete, and about what there is. That it builds and works, `make
test-browser` checks."""

import importlib
import json
import re
from pathlib import Path

import yaml
from chapters import CELL, START, table
from reading_order import LEFT_OUT, api_page, modules

ROOT = Path(__file__).resolve().parent.parent
BOOK = yaml.safe_load((ROOT / "book.yml").read_text(encoding="utf-8"))


def test_every_page_of_the_table_of_contents_is_there():
    pages = [BOOK["root"], *(page["file"] for part in BOOK["parts"] for page in part["chapters"])]
    pages.remove("docs/api")  # docs/conf.py writes it
    assert [
        page
        for page in pages
        if not any((ROOT / f"{page}{end}").is_file() for end in (".md", ".ipynb"))
    ] == []


def test_chapter_00_holds_the_table_of_chapters_and_the_front_page_makes_it():
    cells = json.loads(START.read_text(encoding="utf-8"))["cells"]
    (source,) = ["".join(cell["source"]) for cell in cells if cell["id"] == CELL]
    assert table() in source, "run `python docs/chapters.py`"
    assert "{{ chapters }}" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = [page["file"] for part in BOOK["parts"] for page in part["chapters"]]
    chapters = [page for page in pages if page.startswith("notebooks/")]
    links = re.findall(r"\]\((notebooks/\w+)\.ipynb\)", table("notebooks/"))
    assert links == chapters
    assert set(BOOK["meta"]["minutes"]) <= {page.removeprefix("notebooks/") for page in chapters}


def test_the_readme_leads_to_every_chapter_in_order():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(notebooks/(\w+)\.ipynb\)", readme)
    assert links == re.findall(r"\]\((\w+)\.ipynb\)", table())


def test_the_package_pages_name_every_module_in_reading_order():
    listed = re.findall(r"automodule:: minildm\.(\S+)", api_page())
    course = tuple(f"{package}." for package in LEFT_OUT)
    assert listed == [module for module in modules() if not module.startswith(course)]
    assert len(listed) > 40


def test_the_notation_leads_to_code_that_is_there():
    text = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8")
    names = re.findall(r"\{py:(?:func|meth|class)\}`minildm\.([\w.]+)`", text)
    assert len(names) > 10
    for name in names:
        parts = name.split(".")
        module = next(
            i for i in range(len(parts), 0, -1) if is_module(".".join(["minildm", *parts[:i]]))
        )
        found = importlib.import_module(".".join(["minildm", *parts[:module]]))
        for part in parts[module:]:
            found = getattr(found, part)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_every_equation_of_the_notation_has_a_name_and_the_words_are_in_order():
    notation = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8")
    fences = re.findall(r"^\$\$(.*)$", notation, re.MULTILINE)
    assert len(fences) > 16 and set(fences[::2]) == {""}
    assert all(re.fullmatch(r" \(eq-[\w-]+\)", name) for name in fences[1::2])
    words = re.findall(
        r"^(\S.*)\n  \S", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(words) > 25 and words == sorted(words, key=str.lower)


def test_beside_what_asks_a_kernel_stands_a_figure_that_moves_without_one():
    """What `interact` shows is drawn by a kernel; in the book the next figure is one of ours, which
    moves by itself."""
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        for place, source in enumerate(code):
            if "ipywidgets" in source:
                assert "from minildm.widgets import" in "".join(code[place + 1 : place + 2]), (
                    file.name,
                    source,
                )
