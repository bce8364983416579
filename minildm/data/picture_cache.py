"""Pictures decoded once, kept as bytes and seen as tensors in [-1, 1]. Chapter 18."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from minildm.data.folder import Entry, PictureFolder
from minildm.data.images import from_pixels
from minildm.data.pictures import read_picture, square
from minildm.files import alone_in, read_json, whole, write_json

PIXELS_FILE = "pictures.bin"
UNFINISHED_FILE = "pictures.unfinished"
INDEX_FILE = "pictures.json"
CHUNK = 256  # pictures between two that are on disk for sure
WORKERS = 8  # at most: each holds a picture in its full size


class Pictures:
    """Square pictures in a file, as bytes, of which only what is asked for is in memory.

    Like a tensor (N, C, H, W) in [-1, 1]: `pictures[index]` with a number, a slice or a tensor is a
    tensor, and `split`, `narrow`, `shape`, `device`, `min` and `max` are what they are there.
    file: uint8 (total, H, W, C); index: which of its pictures these are
    """

    def __init__(self, file: Path, shape: tuple[int, int, int, int], index: Tensor | None = None):
        self.file = file
        self.stored = shape
        self.index = torch.arange(shape[0], device="cpu") if index is None else index.cpu()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        _, height, width, channels = self.stored
        return torch.Size((len(self), channels, height, width))

    @property
    def device(self) -> torch.device:
        """Where the tensors are made."""
        return torch.get_default_device()

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        if isinstance(index, int):
            return self[self.index.new_tensor([range(len(self))[index]])][0]
        chosen = self.index[index if isinstance(index, slice) else index.cpu()]
        # opened anew each time, or all that was ever read would count as this process's memory
        pixels = np.memmap(self.file, np.uint8, "r", shape=self.stored)
        return from_pixels(pixels[chosen.numpy()])

    def split(self, size: int) -> Iterator[Tensor]:
        """All of them, `size` at a time."""
        for begin in range(0, max(1, len(self)), size):  # an empty one has one empty part
            yield self[begin : begin + size]

    def narrow(self, dim: int, start: int, length: int) -> Pictures:
        """`length` pictures from `start` on, still on disk; dim: 0."""
        if dim != 0 or start < 0 or start + length > len(self):
            raise ValueError(
                f"expected dim 0 and a part of {len(self)}, got {dim}, {start}, {length}"
            )
        return Pictures(self.file, self.stored, self.index[start : start + length])

    def subset(self, index: Tensor) -> Pictures:
        """Those of the index, still on disk."""
        return Pictures(self.file, self.stored, self.index[index.cpu()])

    def min(self) -> Tensor:
        """The darkest value."""
        return torch.stack([part.min() for part in self.split(CHUNK)]).min()

    def max(self) -> Tensor:
        """The brightest value."""
        return torch.stack([part.max() for part in self.split(CHUNK)]).max()


@dataclass(frozen=True)
class Decoded:
    """The pictures of a folder that could be read, (N, H, W, C) in bytes or on disk, in the order
    of `entries`; (file, reason) of the others; and how many were smaller than they are now."""

    images: np.ndarray | Pictures
    entries: tuple[Entry, ...]
    skipped: tuple[tuple[Path, str], ...]
    enlarged: int

    def split(self, name: str) -> tuple[Tensor | Pictures, tuple[Entry, ...]]:
        """The pictures (N, C, H, W) in [-1, 1] of a split and their entries."""
        index = [i for i, entry in enumerate(self.entries) if entry.split == name]
        images = self.images
        chosen = (
            from_pixels(images[index])
            if isinstance(images, np.ndarray)
            else images.subset(torch.tensor(index, dtype=torch.long, device="cpu"))
        )
        return chosen, tuple(self.entries[i] for i in index)


def decode(
    found: PictureFolder,
    size: int,
    fit: str = "crop",
    background: str = "white",
    cache: str | os.PathLike | None = None,
    progress: bool = False,
) -> Decoded:
    """Every picture of a folder as `size` x `size` pixels; all in colour if one of them is, else
    grey.

    cache: a folder for the pixels, outside of the pictures' own. They are decoded only once, what
        was interrupted goes on, and what is from another folder, from files that have changed or of
        other settings is made anew. None: in memory.
    """
    from PIL import Image

    settings = {"size": size, "fit": fit, "background": background}
    square(Image.new("L", (1, 1)), size, fit, background)  # its errors, before the work
    if cache is None:
        state = _State(settings)
        parts = [np.empty((0, size, size, 3), np.uint8), *_chunks(found, state, progress)]
        pixels = np.concatenate(parts)
        return state.decoded(found, pixels if state.coloured else pixels[..., :1])
    cache = Path(cache)
    if cache.resolve().is_relative_to(found.root.resolve()):
        raise ValueError(f"expected a cache outside of {found.root}, got {cache}")
    cache.mkdir(parents=True, exist_ok=True)
    with alone_in(cache, wait=True):  # of several that train together, one decodes
        return _decode_to(cache, found, _State(settings, _fingerprint(found)), progress)


def _decode_to(cache: Path, found: PictureFolder, state: _State, progress: bool) -> Decoded:
    """What is not there yet; `state` is how far none is."""
    file, index, unfinished = (cache / name for name in (PIXELS_FILE, INDEX_FILE, UNFINISHED_FILE))
    size = int(state.settings["size"])
    before = state.of_before(index)
    channels = 3 if before.coloured or not before.finished else 1
    there = file if before.finished else unfinished
    total = len(found.entries)
    fits = before.done == total if before.finished else before.done <= total
    if fits and there.is_file() and there.stat().st_size >= before.rows * size * size * channels:
        state = before
    if not state.finished:
        with open(unfinished, "r+b" if state.rows else "wb") as out:
            out.truncate(state.rows * size * size * 3)
            out.seek(0, os.SEEK_END)
            for pixels in _chunks(found, state, progress):
                out.write(pixels.tobytes())
                out.flush()
                os.fsync(out.fileno())
                write_json(index, asdict(state))
        if state.coloured:
            os.replace(unfinished, file)
        else:
            _one_channel(unfinished, file, size)
            unfinished.unlink()
        state.finished = True
        write_json(index, asdict(state))
    shape = (state.rows, size, size, 3 if state.coloured else 1)
    return state.decoded(found, Pictures(file, shape))


@dataclass
class _State:
    """How far decoding has come, as INDEX_FILE records it."""

    settings: dict[str, str | int]
    files: str = ""  # the fingerprint of the folder's files
    done: int = 0  # files that were looked at, in their order
    rows: int = 0  # pictures that were kept
    skipped: list[tuple[int, str]] = field(default_factory=list)
    enlarged: int = 0
    coloured: bool = False
    finished: bool = False

    def of_before(self, index: Path) -> _State:
        """What a run before this one has recorded, if it was of the same pictures, else this."""
        if not index.is_file():
            return self
        try:
            before = _State.read(index)
        except ValueError as error:
            warnings.warn(f"{error}; doing it again", stacklevel=5)
            return self
        for key, what in (
            ("settings", "with other settings"),
            ("files", "from another folder, or its files have changed"),
        ):
            if getattr(before, key) != getattr(self, key):
                warnings.warn(f"{index.parent}: was decoded {what}; doing it again", stacklevel=5)
                return self
        return before

    @classmethod
    def read(cls, index: Path) -> _State:
        """What the file records; a ValueError if no decoding comes so far."""
        what = "the state of a picture cache"
        content = read_json(index, what)
        skipped = content.get("skipped")
        if (
            content.keys() == asdict(cls({})).keys()
            and all(_is_count(content[name]) for name in ("done", "rows", "enlarged"))
            and all(isinstance(content[name], bool) for name in ("coloured", "finished"))
            and isinstance(skipped, list)
            and all(isinstance(each, list) and len(each) == 2 for each in skipped)
            and all(_is_count(number) and number < content["done"] for number, _ in skipped)
            and content["enlarged"] <= content["rows"] == content["done"] - len(skipped)
        ):
            content["skipped"] = [(number, str(why)) for number, why in skipped]
            return cls(**content)
        raise ValueError(f"{index}: expected {what}, got {content!r:.200}")

    def decoded(self, found: PictureFolder, images: np.ndarray | Pictures) -> Decoded:
        """The result."""
        damaged = {number for number, _ in self.skipped}
        return Decoded(
            images,
            tuple(entry for i, entry in enumerate(found.entries) if i not in damaged),
            tuple((found.entries[i].file, reason) for i, reason in self.skipped),
            self.enlarged,
        )


def _is_count(value: object) -> bool:
    """A whole number of 0 or more."""
    return type(value) is int and value >= 0


def _chunks(found: PictureFolder, state: _State, progress: bool) -> Iterator[np.ndarray]:
    """The pixels of what is not done yet, (up to CHUNK, size, size, 3), on every core; `state`
    counts along."""
    size, fit = int(state.settings["size"]), str(state.settings["fit"])
    background = str(state.settings["background"])

    def read(entry: Entry) -> tuple[np.ndarray, bool, bool] | str:
        try:
            picture = read_picture(entry.file, background, at_least=2 * size)
        except ValueError as error:  # it begins with the file, which is told beside the reason
            return str(error).removeprefix(f"{entry.file}: ")
        edge = min(picture.size) if fit == "crop" else max(picture.size)
        small = square(picture, size, fit, background)
        return np.asarray(small.convert("RGB")), small.mode == "RGB", edge < size

    total = len(found.entries)
    workers = min(WORKERS, os.cpu_count() or 1)
    bar = tqdm(total=total, initial=state.done, desc="decoding", disable=not progress)
    with bar, ThreadPoolExecutor(workers) as pool:
        while state.done < total:
            part = found.entries[state.done : state.done + CHUNK]
            rows = []
            for number, got in enumerate(pool.map(read, part), state.done):
                bar.update()
                if isinstance(got, str):
                    state.skipped.append((number, got))
                    continue
                pixels, coloured, enlarged = got
                rows.append(pixels)
                state.coloured |= coloured
                state.enlarged += enlarged
            state.done += len(part)
            state.rows += len(rows)
            yield np.stack(rows) if rows else np.empty((0, size, size, 3), np.uint8)


def _fingerprint(found: PictureFolder) -> str:
    """Of the files' names, sizes and times."""
    lines = []
    for entry in found.entries:
        status = entry.file.stat()
        name = entry.file.relative_to(found.root).as_posix()
        lines.append([name, status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def _one_channel(source: Path, target: Path, size: int) -> None:
    """Grey pictures in three equal channels, rewritten as one."""
    with open(source, "rb") as inside, whole(target) as out:
        while rows := inside.read(CHUNK * size * size * 3):
            out.write(rows[::3])
