"""Where the pictures of a folder lie, and its splits, and the maps beside pictures. Chapter 18."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from minildm.data.metadata import METADATA

TRAINED_ON = ("train", "training")
HELD_OUT = ("test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation")
SPLIT_OF: dict[str, str] = {name: "train" for name in TRAINED_ON}
SPLIT_OF |= {name: "test" for name in HELD_OUT}
EXTENSIONS = frozenset(
    ".apng .avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tga .tif .tiff"
    " .webp".split()
)
FOREIGN = frozenset(".arw .cr2 .cr3 .dng .eps .heic .heif .jxl .nef .pdf .psd .raw .svg".split())
MAP = ".map"  # at the end of the stem of a picture's map


def find_splits(root: Path) -> list[tuple[str | None, Path]]:
    """The splits of a folder and where they are; the folder itself, of split None, without any."""
    below = [path for path in sorted(root.iterdir()) if not hidden(path)]
    folders = [path for path in below if path.is_dir()]
    splits = [path for path in folders if path.name.lower() in SPLIT_OF]
    if not splits or any(path.name.lower() in METADATA for path in below):
        return [(None, root)]
    others = [
        path
        for path in folders
        if path not in splits and any(file.suffix.lower() in EXTENSIONS for file in walk(path))
    ]
    formed = [path for path in splits if _has_form(path)]
    if others and not formed:
        return [(None, root)]  # classes, one of which is called "train"
    if others:
        raise ValueError(
            f"{root}: expected splits or classes, got {list_paths(formed, root)}, divided like a "
            f"split, beside {list_paths(others, root)}: move or rename one of the two"
        )
    return [(SPLIT_OF[path.name.lower()], path) for path in splits]


def _has_form(folder: Path) -> bool:
    """Whether a folder holds class folders or captions, as a split does."""
    return any(
        (path.is_dir() and not hidden(path)) or path.name.lower() in METADATA
        for path in folder.iterdir()
    )


def walk(top: Path) -> Iterator[Path]:
    """The files below a folder, in order; links are followed, hidden ones are not."""

    def below(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
        status = folder.stat()
        here = status.st_dev, status.st_ino
        if here in above:  # a link to a folder that this one is in
            return
        for path in sorted(folder.iterdir()):
            if hidden(path):
                continue
            if path.is_dir():
                yield from below(path, (*above, here))
            else:
                yield path

    return below(top, ())


def map_of(file: Path) -> Path | None:
    """The map beside a picture: `1.map.png`, or of another type, for `1.jpg`; None if there is
    none."""
    for suffix in (file.suffix, *sorted(EXTENSIONS)):
        other = file.with_name(f"{file.stem}{MAP}{suffix}")
        if other.is_file():
            return other
    return None


def is_map(file: Path, stems: set[Path]) -> bool:
    """Is it the map of one of these pictures, named without their suffixes?"""
    stem = file.with_suffix("")
    return stem.suffix == MAP and stem.with_suffix("") in stems


def why_no_picture(file: Path) -> str:
    """What is said of a file whose suffix is none of EXTENSIONS."""
    if file.suffix.lower() in FOREIGN:
        return f"{file.suffix} is not read: save it as .png or .jpg"
    return "no picture, by its name"


def hidden(path: Path) -> bool:
    """By its name; `__MACOSX` is what macOS adds to an archive."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def list_paths(paths: Iterable[Path], root: Path) -> str:
    """As they are called in the folder."""
    return ", ".join(path.relative_to(root).as_posix() for path in paths)
