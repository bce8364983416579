"""Long measurements, cell by cell: each is kept in a file of its own as soon as it is taken, so
that a table which is interrupted goes on where it stopped. Chapter 12."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from minildm.files import read_json, write_json


class Cells:
    """The cells of one table in `folder`, all measured with the same `settings` (what JSON can
    hold).

    A folder whose cells have other settings is a ValueError: numbers of two kinds must not stand in
    one table.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "settings.json"
        if file.is_file() and read_json(file, "the settings of these cells") != settings:
            raise ValueError(f"{folder} has cells of other settings; name another folder")
        write_json(file, settings)

    def file(self, name: str) -> Path:
        return self.folder / f"{name.replace(' ', '-')}.json"

    def measure(self, name: str, take: Callable[[], dict[str, Any]]) -> None:
        """Call `take` and keep what it returns, unless the cell is there already."""
        if not self.file(name).is_file():
            write_json(self.file(name), take())
        print(f"{name}: done", flush=True)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are still to be measured."""
        return [name for name in names if not self.file(name).is_file()]

    def read(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """What was measured, in the order of the names."""
        return [read_json(self.file(name), "a finished cell") for name in names]
