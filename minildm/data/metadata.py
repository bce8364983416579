"""The file of captions beside pictures, `metadata.jsonl` or `metadata.csv`, as Hugging Face's
`imagefolder` has it. Chapter 18.

    {"file_name": "1.png", "text": "two cats"}                  a line of metadata.jsonl
    {"file_name": "2.png", "text": ["a dog", "a brown dog"]}    a picture of several captions

A picture may have several lines, too. In metadata.csv the columns are called file_name and text.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

METADATA = ("metadata.jsonl", "metadata.csv")


@dataclass(frozen=True)
class Row:
    """The captions that a line of the file (counted from 1) gives to a picture, by its path from
    the file's folder."""

    line: int
    name: str
    texts: tuple[str, ...]


def read_metadata(file: Path) -> list[Row]:
    """All rows. What is not as it should be is a ValueError that names the line."""
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{file}, line {line}: expected UTF-8 text, got something else") from None
    read = _csv_rows if file.suffix.lower() == ".csv" else _json_rows
    return [_row(file, line, content) for line, content in read(file, text)]


def path_key(name: str) -> str:
    """One spelling of a relative path: macOS writes an é in two characters, Windows a backslash."""
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).as_posix())


def _row(file: Path, line: int, content: dict[str, object]) -> Row:
    """A line's content, checked."""
    where = f"{file}, line {line}"
    if missing := {"file_name", "text"} - content.keys():
        expected = " and ".join(sorted(missing))
        raise ValueError(
            f"{where}: expected {expected}, got only {', '.join(content) or 'nothing'}"
        )
    name, text = content["file_name"], content["text"]
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{where}: expected the path of a picture as file_name, got {name!r}")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{where}: expected a file of this folder, got {name!r}")
    texts = []
    for one in text if isinstance(text, list) else [text]:
        if not isinstance(one, str):
            raise ValueError(
                f"{where}: expected text to be a string or a list of them, got {one!r}"
            )
        if words := " ".join(one.split()):
            texts.append(words)
    return Row(line, name, tuple(texts))


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    """(line, its object)."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            got = f"{error.msg} at column {error.colno}"
            raise ValueError(f"{file}, line {number}: expected JSON, got: {got}") from None
        except RecursionError as error:
            raise ValueError(f"{file}, line {number}: expected JSON, got: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(
                f"{file}, line {number}: expected an object {{…}}, got {line.strip():.60}"
            )
        yield number, row


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    """(line that it ends on, its cells by column)."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    try:
        for row in reader:
            if not columns:
                columns = row
            elif row and len(row) != len(columns):
                raise ValueError(
                    f"{file}, line {reader.line_num}: expected {len(columns)} cells "
                    f"({', '.join(columns)}; one with a comma in quotes), got {len(row)}"
                )
            elif row:
                yield reader.line_num, dict(zip(columns, row, strict=True))
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: expected CSV, got: {error}") from None
