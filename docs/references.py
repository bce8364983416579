"""The works that the course cites: read from references.bib, found in a text, and addressed."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

FILE = Path(__file__).with_name("references.bib")
FAMILY = r"(?:[Vv]an den |[Vv]on )?[A-Z]\w+(?:[-’'][A-Z]?\w+)*"
YEAR = r" (\(?)((?:19|20)\d\d)\b"
# A name alone says less, so it is a citation in brackets only: "(GEGLU, Shazeer 2020)".
CITATION = re.compile(
    rf"({FAMILY}(?: et al\.| (?:&|and) {FAMILY})|(?<=[(;,] ){FAMILY}|(?<=[([]){FAMILY}){YEAR}"
)


@functools.cache
def entries() -> dict[str, dict[str, str]]:
    """What references.bib says, by "Ho et al. 2020": its fields, its kind under "type" and its
    name under "key"."""
    found: dict[str, dict[str, str]] = {}
    text = FILE.read_text(encoding="utf-8")
    for kind, key, body in re.findall(
        r"^@(\w+)\{([\w-]+),\n(.*?)^\}$", text, re.MULTILINE | re.DOTALL
    ):
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", body, re.MULTILINE))
        name = cited_as(fields)
        if name in found:
            raise ValueError(f"expected one entry for {name!r}, got {found[name]['key']} and {key}")
        found[name] = fields | {"type": kind, "key": key}
    return found


def cited_as(fields: dict[str, str]) -> str:
    """How a text names the work: one author, two with &, or the first of more, and the year."""
    families = [author.partition(",")[0] for author in fields["author"].split(" and ")]
    names = {1: families[0], 2: " & ".join(families)}.get(len(families), f"{families[0]} et al.")
    return f"{names} {fields['year']}"


def address(fields: dict[str, str]) -> str:
    """Where it can be read: arXiv, which is open to all, before the publisher's DOI."""
    if "eprint" in fields:
        return f"https://arxiv.org/abs/{fields['eprint']}"
    if "doi" in fields:
        return f"https://doi.org/{quote(fields['doi'])}"
    return fields["url"]


def citations(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Each "Ho et al. 2020" or "Ho et al. (2020)" of the text, with its name in `entries`."""
    for found in CITATION.finditer(text):
        names = re.sub(r"^V(?=an den |on )", "v", found[1].replace(" and ", " & "))
        yield found, f"{names} {found[3]}"
