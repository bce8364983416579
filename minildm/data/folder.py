"""What a folder of pictures holds, by the conventions of Hugging Face's `imagefolder`: a sub-folder
for each class, or a file of captions. Chapter 18.

    FOLDER/cat/1.png                a picture of the class "cat", captioned "a picture of cat"; so
                                    is what lies deeper, FOLDER/cat/tabby/2.png
    FOLDER/metadata.jsonl           captions, as `read_metadata` describes it; or metadata.csv
    FOLDER/train/…, FOLDER/test/…   either of these, twice; HELD_OUT (in layout) has other names
    FOLDER/…/1.map.png              a map beside the picture 1.png (ControlNet), no picture itself

Without splits a tenth of the pictures is held out by their content, so that a picture never changes
sides when others are added, and its copies are on the same side. Hidden files are not looked at;
all others are either read or listed as skipped, with the reason.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from minildm.data.layout import (
    EXTENSIONS,
    SPLIT_OF,
    find_splits,
    is_map,
    list_paths,
    walk,
    why_no_picture,
)
from minildm.data.metadata import METADATA, path_key, read_metadata

CAPTION = "a picture of {class}"
PART_HELD_OUT = 0.1  # of the pictures, where a folder has no splits
NAMED = 10  # so many skipped files are named in a message


@dataclass(frozen=True)
class Entry:
    """One picture: its file, its captions, the number of its class (None: the folder has none), and
    its split, "train" or "test"."""

    file: Path
    texts: tuple[str, ...]
    label: int | None
    split: str


@dataclass(frozen=True)
class PictureFolder:
    """What `read_folder` found.

    classes: the names of the labels; empty if the folder has captions
    entries: the pictures, in the order of their paths
    skipped: (file, reason) of what is no picture or has no caption
    notes: what else its owner may want to know, a line each
    """

    root: Path
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    skipped: tuple[tuple[Path, str], ...] = ()
    notes: tuple[str, ...] = ()


def read_folder(
    folder: str | os.PathLike, caption: str = CAPTION, strict: bool = False, progress: bool = False
) -> PictureFolder:
    """List the pictures of a folder with their captions, classes and splits; none is decoded.

    caption: what a class folder's pictures are called; "_" in its name becomes a space
    strict: what would be skipped is a ValueError
    A folder that holds no such thing is a ValueError that says what was expected.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"expected a folder of pictures, got {root}, which is none")
    if "{class}" not in caption:
        raise ValueError(f'expected a caption with {{class}}, like "{CAPTION}", got {caption!r}')
    reader = _Reader(root, caption)
    tops = find_splits(root)
    for split, top in tops:
        reader.read(split, top)
    if tops[0][0] is not None:
        parts = {top.name for _, top in tops}
        reader.skipped += [
            (file, "in no split")
            for file in walk(root)
            if file.relative_to(root).parts[0] not in parts
        ]
    found = reader.found(progress)
    if strict and found.skipped:
        raise ValueError(
            f"{root}: expected pictures alone, got {list_skipped(root, found.skipped)}"
        )
    return found


def list_skipped(root: Path, skipped: Iterable[tuple[Path, str]]) -> str:
    """The first files by their names, with the reasons, and the count of all."""
    lines = [
        f"{file.relative_to(root) if file.is_relative_to(root) else file} ({reason})"
        for file, reason in skipped
    ]
    more = ", …" if len(lines) > NAMED else ""
    count = f"{len(lines)} file{'s' * (len(lines) != 1)}"
    return f"{', '.join(lines[:NAMED])}{more}: {count} in all"


class _Reader:
    """Gathers what one folder holds, split by split."""

    def __init__(self, root: Path, caption: str):
        self.root = root
        self.caption = caption
        self.named: list[tuple[Path, str, str | None]] = []  # file, class, split
        self.captioned: list[tuple[Path, tuple[str, ...], str | None]] = []
        self.skipped: list[tuple[Path, str]] = []
        self.notes: list[str] = []

    def read(self, split: str | None, top: Path) -> None:
        """All below `top`, which is one split, or without a split the whole folder."""
        files, metadata = [], []
        for file in walk(top):
            if file.name.lower() in METADATA:
                metadata.append(file)
            elif not file.is_file():
                self.skipped.append((file, "a broken link, or no file"))
            elif not os.access(file, os.R_OK):
                self.skipped.append((file, "no permission to read it"))
            else:
                files.append(file)
        stems = {file.with_suffix("") for file in files if file.suffix.lower() in EXTENSIONS}
        files = [file for file in files if not is_map(file, stems)]
        self._check_depth(top, files)
        if len(metadata) > 1:
            raise ValueError(
                f"{self.root}: expected one file of captions, got {list_paths(metadata, self.root)}"
            )
        if metadata and metadata[0].parent != top:
            raise ValueError(
                f"{self.root}: expected the file of captions in {top}, got it in {metadata[0]}"
            )
        if metadata:
            self._match(split, metadata[0], files)
        else:
            self._classes(split, top, files)

    def _check_depth(self, top: Path, files: list[Path]) -> None:
        """Splits below the top would be mixed in silence."""
        kinds: dict[Path, set[str]] = {}
        for file in files:
            for folder in file.relative_to(top).parents:
                if folder.parent.name and folder.name.lower() in SPLIT_OF:
                    kinds.setdefault(folder.parent, set()).add(SPLIT_OF[folder.name.lower()])
        for folder, both in kinds.items():
            if len(both) == 2:
                raise ValueError(
                    f"{self.root}: expected train and test directly in it, got them in "
                    f"{(top / folder).relative_to(self.root)}"
                )

    def _classes(self, split: str | None, top: Path, files: list[Path]) -> None:
        """Each picture and its class."""
        pictures = []
        for file in files:
            if file.suffix.lower() in EXTENSIONS:
                pictures.append(file)
            else:
                self.skipped.append((file, why_no_picture(file)))
        flat = [file for file in pictures if file.parent == top]
        if flat and len(flat) == len(pictures):
            raise ValueError(
                f"{top}: expected a sub-folder for each class, or captions in {METADATA[0]} or "
                f"{METADATA[1]}, got {len(flat)} pictures without either"
            )
        self.skipped += [(file, "in no class folder") for file in flat]
        for file in pictures:
            if file.parent != top:
                self.named.append((file, file.relative_to(top).parts[0], split))

    def _match(self, split: str | None, metadata: Path, files: list[Path]) -> None:
        """Each picture and its captions."""
        texts: dict[str, list[str]] = {}
        line_of: dict[str, tuple[int, str]] = {}
        for row in read_metadata(metadata):
            key = path_key(row.name)
            line_of.setdefault(key, (row.line, row.name))
            texts.setdefault(key, []).extend(row.texts)
        pictures: list[tuple[Path, tuple[str, ...]]] = []
        for file in files:
            key = path_key(file.relative_to(metadata.parent).as_posix())
            if some := texts.get(key):
                pictures.append((file, tuple(dict.fromkeys(some))))
            elif key in line_of:
                self.skipped.append((file, f"an empty caption in line {line_of[key][0]}"))
            elif file.suffix.lower() in EXTENSIONS:
                self.skipped.append((file, f"no caption in {metadata.name}"))
            else:
                self.skipped.append((file, why_no_picture(file)))
            line_of.pop(key, None)
        for line, name in line_of.values():
            reason = f"expected by line {line} of {metadata.name}, but there is no such file"
            self.skipped.append((metadata.parent / name, reason))
        # one file of captions for all splits
        tops = [file.relative_to(metadata.parent).parts[0].lower() for file, _ in pictures]
        inside = split is None and set(tops) <= SPLIT_OF.keys()
        self.captioned += [
            (file, some, SPLIT_OF[name] if inside else split)
            for (file, some), name in zip(pictures, tops, strict=True)
        ]

    def found(self, progress: bool) -> PictureFolder:
        """Everything, with a split for each picture."""
        if self.named and self.captioned:
            raise ValueError(
                f"{self.root}: expected captions for every split or for none, got both"
            )
        classes = tuple(sorted({name for _, name, _ in self.named}))
        number = {name: label for label, name in enumerate(classes)}
        rows: list[tuple[Path, tuple[str, ...], int | None, str | None]] = [
            (file, (self._caption(name),), number[name], split) for file, name, split in self.named
        ]
        rows += [(file, texts, None, split) for file, texts, split in self.captioned]
        if not rows:
            got = list_skipped(self.root, self.skipped) if self.skipped else "none"
            raise ValueError(f"{self.root}: expected pictures with captions, got {got}")
        rows.sort(key=lambda row: row[0].relative_to(self.root).as_posix())
        splits = {row[3] for row in rows}
        if "train" not in splits and "test" in splits:
            raise ValueError(f"{self.root}: expected pictures to train on in train, got none")
        if "test" in splits:
            sides = [split or "train" for *_, split in rows]
        else:
            held_out = hold_out([row[0] for row in rows], progress)
            sides = ["test" if out else "train" for out in held_out]
        entries = tuple(
            Entry(file, texts, label, side)
            for (file, texts, label, _), side in zip(rows, sides, strict=True)
        )
        self._note(classes, entries)
        return PictureFolder(self.root, classes, entries, tuple(self.skipped), tuple(self.notes))

    def _note(self, classes: tuple[str, ...], entries: tuple[Entry, ...]) -> None:
        """What is allowed, but may not be meant."""
        if len(classes) == 1:
            self.notes.append(
                f"expected two classes or more, got only {classes[0]}: every picture's caption is "
                f'"{entries[0].texts[0]}"'
            )
        trained = {entry.label for entry in entries if entry.split == "train"}
        for label, name in enumerate(classes):
            if label not in trained:
                self.notes.append(f"expected pictures of {name} to train on, got none")
        if all(entry.split == "train" for entry in entries):
            self.notes.append("expected pictures to hold out, got only one, or copies of one")

    def _caption(self, name: str) -> str:
        return self.caption.replace("{class}", name.replace("_", " "))


def hold_out(files: list[Path], progress: bool = False) -> list[bool]:
    """Which files are held out: a tenth, by the SHA-256 of what they hold. Of a few files that
    differ at least one is, and at least one is not."""
    with ThreadPoolExecutor() as pool:
        hashing = tqdm(pool.map(_digest, files), "hashing", len(files), disable=not progress)
        numbers = [int(digest, 16) for digest in hashing]
    limit = PART_HELD_OUT * 2**256
    lowest, highest = min(numbers), max(numbers)
    if lowest == highest:
        return [False] * len(files)
    return [(number < limit or number == lowest) and number != highest for number in numbers]


def _digest(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
