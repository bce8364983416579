"""Maps beside pictures, `name.png` and `name.map.png`: what a ControlNet learns from (Zhang et al.
2023). Chapter 16.

A map is a picture of its own, edges or depth say, or a *semantic* map, whose pixels are the numbers
of classes: as grey levels or as indices of a palette, as segmentation data sets have them, or, for
the classes of DigitScenes, in the colours of `MAP_COLOURS`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minildm.data.images import from_pixels
from minildm.data.layout import EXTENSIONS, MAP, is_map, map_of, walk
from minildm.data.pictures import damaged_kinds, read_picture, square, upright_size
from minildm.files import whole

# For the digits 0 to 9 and the ground; brighter and darker in turn, so that neighbours differ
# without colour too.
MAP_COLOURS = (
    "#88ccee",
    "#332288",
    "#ddcc77",
    "#117733",
    "#cc6677",
    "#44aa99",
    "#882255",
    "#999933",
    "#661100",
    "#aa4499",
    "#f2f2f2",
)


def read_map(
    file: str | os.PathLike,
    size: int,
    classes: int | None = None,
    fit: str = "crop",
    background: str = "white",
) -> Tensor:
    """A map as a ControlNet is shown it: (3, size, size) in [0, 1], or, with `classes`, a semantic
    map's numbers (size, size), int64.

    fit, background: as for pictures (`square`); a semantic map has no background to be padded with
    A file that is no such map is a ValueError that names it.
    """
    from PIL import Image, ImageOps

    if classes is None:
        picture = square(read_picture(file, background, size), size, fit, background)
        return (from_pixels(np.array(picture.convert("RGB"))[None])[0] + 1) / 2
    numbers = read_classes(file, classes)
    height, width = numbers.shape
    if fit == "pad" and height != width:
        raise ValueError(f"{file}: expected a square map, to be padded, got {width} x {height}")
    whole_map = Image.fromarray(numbers.astype(np.int32))
    small = ImageOps.fit(whole_map, (size, size), Image.Resampling.NEAREST)
    return torch.as_tensor(np.asarray(small).astype(np.int64))


def read_classes(file: str | os.PathLike, classes: int) -> np.ndarray:
    """The classes in a semantic map's file, (H, W), integers below `classes`."""
    from PIL import Image, ImageColor, ImageOps

    try:
        with Image.open(file) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
    except damaged_kinds() as error:
        raise ValueError(f"{file}: expected a map, got no whole picture") from error
    if upright.mode in ("L", "P") or upright.mode.startswith("I"):
        numbers = np.asarray(upright).astype(np.int64)
        wrong = (numbers < 0) | (numbers >= classes)
        if wrong.any():
            expected = f"numbers of classes from 0 to {classes - 1}"
            raise ValueError(f"{file}: expected {expected}, got {numbers[wrong][0]}")
        return numbers
    if upright.mode not in ("RGB", "RGBA") or classes > len(MAP_COLOURS):
        expected = "a semantic map in grey levels or with a palette"
        raise ValueError(f"{file}: expected {expected}, got mode {upright.mode}")
    pixels = np.asarray(upright.convert("RGB"))
    known = np.array([ImageColor.getrgb(colour) for colour in MAP_COLOURS[:classes]])
    same = (pixels[:, :, None] == known).all(3)
    if not same.any(2).all():
        red, green, blue = pixels[~same.any(2)][0].tolist()
        expected = f"the colours of {classes} classes, {', '.join(MAP_COLOURS[:classes])}"
        raise ValueError(f"{file}: expected {expected}, got #{red:02x}{green:02x}{blue:02x}")
    return same.argmax(2)


def write_classes(file: str | os.PathLike, numbers: Tensor | np.ndarray) -> None:
    """Write a semantic map (H, W) of DigitScenes' classes, or fewer, as a PNG with a palette."""
    from PIL import Image, ImageColor

    picture = Image.fromarray(np.asarray(numbers).astype(np.uint8))
    picture.putpalette([level for colour in MAP_COLOURS for level in ImageColor.getrgb(colour)])
    with whole(file) as out:
        picture.save(out, format="png")


def check_maps(folder: Path) -> None:
    """ValueError if there is a map in a folder, or in one below it, whose picture is not beside
    it."""
    files = list(walk(folder))
    stems = {file.with_suffix("") for file in files if file.suffix.lower() in EXTENSIONS}
    for file in files:
        stem = file.with_suffix("")
        if stem.suffix == MAP and not is_map(file, stems):
            raise ValueError(f"{file}: expected the picture of this map beside it, got none")


def read_maps(
    pictures: Sequence[Path],
    size: int,
    classes: int | None = None,
    fit: str = "crop",
    background: str = "white",
) -> Tensor:
    """The maps beside these pictures, (N, 3, size, size) in [0, 1] or numbers (N, size, size).

    A picture without a map, or with one of another size, is a ValueError that names it.
    """
    maps = []
    for picture in pictures:
        file = map_of(picture)
        if file is None:
            expected = f"{picture.stem}{MAP}.png"
            raise ValueError(f"{picture}: expected its map {expected} beside it, got none")
        if (wanted := upright_size(picture)) != (got := upright_size(file)):
            sizes = f"{wanted[0]} x {wanted[1]}, got {got[0]} x {got[1]}"
            raise ValueError(f"{file}: expected a map of its picture's size, {sizes}")
        maps.append(read_map(file, size, classes, fit, background))
    return torch.stack(maps)
