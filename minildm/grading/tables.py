"""Tables in CSV, as spreadsheets, Moodle and Canvas write and read them."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from minildm.files import whole

Cell = str | float


def blank(value: float | None) -> str:
    """A number, or nothing."""
    return "" if value is None else f"{value:g}"


def safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) and text != "-" else text


def write_table(
    path: Path, header: list[str], rows: Iterable[list[Cell]], encoding: str = "utf-8"
) -> None:
    """A CSV file, replaced as a whole. A spreadsheet reads names right in "utf-8-sig", which begins
    with a mark."""
    with whole(path, "w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in rows:
            writer.writerow([safe(cell) if isinstance(cell, str) else cell for cell in row])


def read_table(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """A CSV file's rows by column; [] if there is none. A ValueError unless it has these columns
    and is UTF-8.

    Accents are made one with their letters (NFC), as in folders' names. Spreadsheets' byte-order
    mark is dropped; those of many countries write semicolons, which is understood.
    """
    if not path.is_file():
        return []
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(
            f"{path}: expected UTF-8; in a spreadsheet, save it as “CSV UTF-8”"
        ) from None
    text = unicodedata.normalize("NFC", text)
    first = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    if absent := [name for name in columns if name not in (reader.fieldnames or ())]:
        raise ValueError(
            f"{path}: expected the columns {', '.join(columns)}, but {', '.join(absent)} is missing"
        )
    return list(reader)
