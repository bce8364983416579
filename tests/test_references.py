"""The works that the course cites can be looked up: each has an entry in docs/references.bib, and a
chapter's citation is a link to it."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from references import FILE, address, citations, cited_as, entries

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]*)\)")
VENUE = {
    "article": "journal",
    "inproceedings": "booktitle",
    "techreport": "institution",
    "misc": "howpublished",
}


def texts(path: Path) -> list[str]:
    """A file's text, or a notebook's cells, each on one line, without the marks of comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        parts = ["".join(cell["source"]) for cell in json.loads(text)["cells"]]
    else:
        parts = [text]
    return [re.sub(r"\s+(?:(?:#|//|\*)\s+)?", " ", part) for part in parts]


def citing_files() -> list[Path]:
    """All that a reader may read, and this test itself not."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    files = [ROOT / name for name in names.splitlines()] or [
        file
        for folder in ("minildm", "notebooks", "docs", "benchmarks", "browser")
        for file in (ROOT / folder).rglob("*")
    ]
    kinds = {".py", ".md", ".ipynb", ".js"}
    return [
        file
        for file in files
        if file.suffix in kinds and file.is_file() and file.name != Path(__file__).name
    ]


def cited() -> dict[str, set[str]]:
    """What is cited -> where."""
    found: dict[str, set[str]] = {}
    for path in citing_files():
        for text in texts(path):
            for _, name in citations(text):
                found.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_every_citation_has_an_entry_and_every_entry_is_cited():
    found = cited()
    assert len(found) > 80
    assert {name: files for name, files in found.items() if name not in entries()} == {}
    assert sorted(set(entries()) - set(found)) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("DDIM (Song et al. 2020) is", "Song et al. 2020"),
        ("of Ho et al. (2020), who", "Ho et al. 2020"),
        (
            "Salimans & Ho 2022, eq. 3; Ho and Salimans (2021)",
            "Salimans & Ho 2022|Ho & Salimans 2021",
        ),
        ("(GEGLU, Shazeer 2020) (Lloyd 1982; Luo 2022)", "Shazeer 2020|Lloyd 1982|Luo 2022"),
        (
            "Van den Oord et al. 2017, eq. 1 (von Platen et al. 2022)",
            "van den Oord et al. 2017|von Platen et al. 2022",
        ),
        ("(Székely & Rizzo 2013; Fei-Fei et al. 2006)", "Székely & Rizzo 2013|Fei-Fei et al. 2006"),
        ("in December 2025, of 2024 pictures (CVPR, 2022)", ""),
    ],
)
def test_citations_are_found_in_each_form(text, names):
    assert "|".join(name for _, name in citations(text)) == names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_links_each_citation_to_the_work_and_ends_with_three_to_read(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    for text in prose:
        for label, target in LINK.findall(text):
            for _, name in citations(label):
                assert target == address(entries()[name]), (name, target)
        assert [name for _, name in citations(LINK.sub("", text))] == [], (
            "a citation without a link"
        )

    title, _, *works = prose[-1].splitlines()
    assert cells[-1]["cell_type"] == "markdown" and title == "## Read next" and len(works) == 3
    named = [name for line in works for _, name in citations(line)]
    assert len(set(named)) == 3
    for line, name in zip(works, named, strict=True):
        assert re.fullmatch(r"- \[[^\]]*\]\([^)]*\): .+\.", line), f"what is {name} read for?"


def test_entries_are_complete_and_well_formed():
    text = FILE.read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([\w-]+),$", text, re.MULTILINE)
    assert [fields["key"] for fields in entries().values()] == keys == sorted(set(keys))
    for name, fields in entries().items():
        assert {"author", "title", "year", VENUE[fields["type"]]} <= set(fields), name
        assert all(value.strip() for value in fields.values()), name
        assert re.fullmatch(r"(19|20)\d\d", fields["year"]), name
        assert all(", " in author for author in people(fields)), "family name, given names"
        assert fields.keys() & {"eprint", "doi", "url"}, f"{name} cannot be looked up"
        if "eprint" in fields:
            assert re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}", fields["eprint"]), name
            assert fields["archiveprefix"] == "arXiv"
        if "doi" in fields:
            assert re.fullmatch(r"10\.\d{4,9}/\S+", fields["doi"]), name
        assert re.fullmatch(r"https?://[^\s()]+", address(fields)), name


def people(fields: dict[str, str]) -> list[str]:
    return [author for author in fields["author"].split(" and ") if author != "others"]


def test_identifiers_are_not_shared_and_preprints_are_not_younger_than_their_year():
    for kind in ("eprint", "doi", "url"):
        values = [fields[kind] for fields in entries().values() if kind in fields]
        assert len(set(values)) == len(values)
    for name, fields in entries().items():
        if "." in fields.get("eprint", "") and "Workshop" not in fields.get("booktitle", ""):
            assert 2000 + int(fields["eprint"][:2]) <= int(fields["year"]), name


def test_authors_and_year_make_the_name():
    one = {"author": "Shazeer, Noam", "year": "2020"}
    assert cited_as(one) == "Shazeer 2020"
    assert cited_as(one | {"author": "Ho, Jonathan and Salimans, Tim"}) == "Ho & Salimans 2020"
    assert cited_as(one | {"author": "van den Oord, A. and others and x"}) == (
        "van den Oord et al. 2020"
    )


def test_addresses_are_open_ones_first():
    barz = entries()["Barz & Denzler 2020"]
    assert {"eprint", "doi"} <= set(barz) and address(barz).startswith("https://arxiv.org/abs/")
    assert address(entries()["Dowson & Landau 1982"]) == (
        "https://doi.org/10.1016/0047-259X%2882%2990077-X"
    )
