"""One picture file, read as people expect: upright, on a background, grey or colour, in 8 bits.
Chapter 18.

What Pillow gives of a file is what is stored there: lying on its side if the camera lay, with
transparent parts whose hidden colour is anything, in 16 bits that a conversion clips. Colour
profiles are not applied.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

FITS = ("crop", "pad")


def damaged_kinds() -> tuple[type[Exception], ...]:
    """What Pillow raises for a damaged file, and its guard against decompression bombs."""
    from PIL import Image

    return (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    )


def read_picture(
    file: str | os.PathLike, background: str = "white", at_least: int | None = None
) -> Image.Image:
    """The picture in a file, upright and opaque: mode "L" if nothing in it is coloured, else "RGB".

    Of an animation the first frame; 16 bits and floats from 0 to 1 are scaled to 8 bits.

    background: behind transparent parts, any colour of CSS
    at_least: a JPEG may be decoded smaller, as long as both sides keep this many pixels: faster
    A file that cannot be read so is a ValueError that names it.
    """
    from PIL import Image, ImageOps

    behind = colour(background)
    try:
        with Image.open(file) as opened:
            if at_least is not None:
                opened.draft(None, (at_least, at_least))
            opened.load()
            picture = ImageOps.exif_transpose(opened)
            return _without_colour(_on(behind, _eight_bits(picture)))
    except damaged_kinds() as error:
        raise _damaged(file, error) from error


def upright_size(file: str | os.PathLike) -> tuple[int, int]:
    """Width and height of the picture in a file, from its header alone, if it is no TIFF.
    Errors as in `read_picture`."""
    from PIL import ExifTags, Image

    try:
        with Image.open(file) as opened:
            if opened.format == "TIFF":  # which Pillow turns itself
                opened.load()
            width, height = opened.size
            lying = opened.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return (height, width) if lying else (width, height)
    except damaged_kinds() as error:
        raise _damaged(file, error) from error


def square(
    picture: Image.Image, size: int, fit: str = "crop", background: str = "white"
) -> Image.Image:
    """A picture of `size` x `size`, made smaller (or larger) by Lanczos' filter.

    fit: "crop" keeps the middle, "pad" all of it, in the middle of the background
    """
    from PIL import Image, ImageOps

    if fit not in FITS or size < 1:
        raise ValueError(
            f"expected a fit of {' or '.join(FITS)} and a size of 1 or more, got {fit!r}, {size}"
        )
    behind = colour(background)
    filter = Image.Resampling.LANCZOS
    if fit == "crop":
        return ImageOps.fit(picture, (size, size), filter)
    scale = size / max(picture.size)
    width, height = (max(1, round(scale * side)) for side in picture.size)
    small = picture.resize((width, height), filter)
    if small.mode == "L" and len(set(behind)) > 1:
        small = small.convert("RGB")
    canvas = Image.new(small.mode, (size, size), behind if small.mode == "RGB" else behind[0])
    canvas.paste(small, ((size - width) // 2, (size - height) // 2))
    return canvas


def colour(name: str) -> tuple[int, int, int]:
    """An opaque colour of CSS, "white" or "#fafafa", as red, green and blue from 0 to 255."""
    from PIL import ImageColor

    try:
        found = ImageColor.getrgb(name)
    except ValueError:
        found = ()
    if len(found) != 3:
        raise ValueError(f"expected an opaque colour such as white or #fafafa, got {name!r}")
    return found


def _damaged(file: str | os.PathLike, error: Exception) -> ValueError:
    from PIL import UnidentifiedImageError

    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    elif isinstance(error, UnidentifiedImageError):
        reason = "an empty file" if os.path.getsize(file) == 0 else "no format that Pillow knows"
    return ValueError(f"{os.fspath(file)}: expected a picture, got: {reason}")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """The same picture in 8 bits a channel, with an alpha channel if it has transparent parts."""
    from PIL import Image

    if picture.mode.startswith("I") or picture.mode == "F":
        levels = np.asarray(picture)
        top = 1.0 if picture.mode == "F" else 65535
        low, high = levels.min(), levels.max()
        if not (low >= 0 and high <= top):  # NaN, too
            raise ValueError(f"grey levels from {low:.4g} to {high:.4g}, not 0 to {top:g}")
        grey = Image.fromarray((levels * (255 / top)).round().astype(np.uint8))
        clear = picture.info.get("transparency")
        if clear is None:
            return grey
        return Image.merge("LA", (grey, Image.fromarray(np.uint8(255) * (levels != clear))))
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def _on(behind: tuple[int, int, int], picture: Image.Image) -> Image.Image:
    """What is seen of a picture before a background."""
    from PIL import Image

    if picture.mode in ("L", "RGB"):
        return picture
    canvas = Image.new("RGBA", picture.size, (*behind, 255))
    canvas.alpha_composite(picture.convert("RGBA"))
    return canvas.convert("RGB")


def _without_colour(picture: Image.Image) -> Image.Image:
    """In mode "L", if its three channels are one."""
    from PIL import ImageChops

    if picture.mode == "L":
        return picture
    red, *others = picture.split()
    if any(ImageChops.difference(red, other).getbbox() for other in others):
        return picture
    return red
