"""Figures that consist of pictures: grids, strips, what a network holds, and where it looks.
Chapters 00, 01, 04, 09 and 10.

Given `ax`, a function draws there and returns that figure. `save_grid` does without matplotlib.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minildm.data.images import to_pixels
from minildm.data.maps import MAP_COLOURS
from minildm.device import on_cpu
from minildm.files import whole
from minildm.plots.style import FONT_SIZE, PAGE_WIDTH, styled, take_off_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TILE = 0.9  # inches; an image is no wider
ORANGE = (1.0, 0.45, 0.0)  # of an overlay: no digit and no ground of DigitScenes has it
GREYNESS = (0.299, 0.587, 0.114)  # how bright red, green and blue look

Images = Tensor | np.ndarray | Sequence[Tensor | np.ndarray]


def mosaic(images: Images, ncols: int | None = None, gap: int = 2, band: int = 0) -> np.ndarray:
    """Images side by side, row after row, as one: uint8 (H, W) or (H, W, 3).

    images: (N, 1 or 3, h, w) in [-1, 1], clipped to it, or a list of (1 or 3, h, w); or as saved,
    uint8 (N, h, w) or (N, h, w, 3). ncols: as nearly square as possible if not given. White: `gap`
    pixels between, `band` above each row.
    """
    pixels = _pixels(images)
    count, height, width = pixels.shape[:3]
    ncols = _columns(count, ncols)
    nrows = -(-count // ncols)
    down = band + height + gap
    right = width + gap
    sheet = np.full((nrows * down - gap, ncols * right - gap, *pixels.shape[3:]), 255, np.uint8)
    for i, image in enumerate(pixels):
        top = i // ncols * down + band
        left = i % ncols * right
        sheet[top : top + height, left : left + width] = image
    return sheet


def save_grid(
    images: Images, path: str | os.PathLike, ncols: int | None = None, gap: int = 2, scale: int = 1
) -> None:
    """Write the mosaic to `path` as PNG, each pixel as `scale` x `scale` pixels; the file is whole
    or not there."""
    from PIL import Image

    sheet = mosaic(images, ncols, gap).repeat(scale, axis=0).repeat(scale, axis=1)
    with whole(path) as file:
        Image.fromarray(sheet).save(file, format="PNG")


@on_cpu
def image_grid(
    images: Images,
    titles: Sequence[str] | None = None,
    ncols: int | None = None,
    ax: Axes | None = None,
    gap: int = 2,
) -> Figure:
    """The mosaic, with a title above each image if given; images as for `mosaic`."""
    pixels = _pixels(images)
    count, height, width = pixels.shape[:3]
    if titles is not None and len(titles) != count:
        raise ValueError(f"expected a title for each of the {count} images, got {len(titles)}")
    ncols = _columns(count, ncols)
    tile = min(TILE, PAGE_WIDTH / ncols)  # inches
    letters = max(8, int(tile / 0.065))  # in one line of a title
    titles_lines = [textwrap.wrap(title, width=letters, max_lines=3) for title in titles or ()]
    most_lines = max(map(len, titles_lines), default=0)
    band = round(most_lines * 0.15 / tile * width)  # the room for the titles, in pixels
    figure, ax = _show(mosaic(pixels, ncols, gap, band), tile / width, ax)
    for i, lines in enumerate(titles_lines):
        x = i % ncols * (width + gap) + width / 2
        y = i // ncols * (band + height + gap) + band - 1
        ax.text(x, y, "\n".join(lines), ha="center", va="bottom", fontsize=8, linespacing=1.0)
    return figure


@on_cpu
def plot_filmstrip(
    frames: Images | Sequence[Images],
    labels: Sequence[str],
    row_labels: Sequence[str] | None = None,
    xlabel: str = "",
    ax: Axes | None = None,
    gap: int = 2,
) -> Figure:
    """One thing as it changes, left to right, each frame's label beneath it.

    frames: N images, as for `mosaic`; with `row_labels` as many such strips, one under the other.
        labels: N.
    """
    strips = [_pixels(strip) for strip in ([frames] if row_labels is None else frames)]
    if row_labels is not None and len(row_labels) != len(strips):
        raise ValueError(
            f"expected a label for each of the {len(strips)} strips, got {len(row_labels)}"
        )
    counts = [len(strip) for strip in strips]
    if any(count != len(labels) for count in counts):
        raise ValueError(f"expected {len(labels)} frames, one for each label, got {counts}")
    height, width = strips[0].shape[1:3]
    tile = min(TILE, PAGE_WIDTH / len(labels))
    below = 0.45 if xlabel else 0.25
    sheet = mosaic(np.concatenate(strips), len(labels), gap)
    figure, ax = _show(sheet, tile / width, ax, below)
    ax.set_xticks([i * (width + gap) + (width - 1) / 2 for i in range(len(labels))], labels)
    longest = max([1, *(len(line) for label in labels for line in str(label).split("\n"))])
    fits = 72 * tile / (0.6 * longest)  # points: the longest label is as wide as its frame
    ax.tick_params(axis="x", labelsize=min(FONT_SIZE, max(fits, 6)))
    if row_labels is not None:
        middles = [i * (height + gap) + (height - 1) / 2 for i in range(len(strips))]
        ax.set_yticks(middles, row_labels)
    ax.set_xlabel(xlabel)
    return figure


@on_cpu
def plot_feature_maps(maps: Mapping[str, Tensor], count: int = 8, size: int = 32) -> Figure:
    """A row of feature maps for each name: the first `count` channels, each stretched over its own
    range of values.

    maps: name -> (C, h, w), C of at least `count`; shown `size` pixels wide, without smoothing.
    """
    rows = []
    for name, channels in maps.items():
        if channels.ndim != 3 or len(channels) < count:
            got = tuple(channels.shape)
            raise ValueError(
                f"expected at least {count} channels (C, h, w) for {name!r}, got {got}"
            )
        chosen = channels[:count, None].detach().float().contiguous()
        low = chosen.amin((1, 2, 3), keepdim=True)
        high = chosen.amax((1, 2, 3), keepdim=True)
        chosen = (chosen - low) / (high - low).clamp(min=1e-8) * 2 - 1
        rows.append(F.interpolate(chosen, size=(size, size), mode="nearest"))
    return plot_filmstrip(rows, [str(i) for i in range(count)], list(maps), xlabel="channel")


def overlay(picture: Tensor, heat: Tensor) -> Tensor:
    """The picture in grey with orange laid over it, as much of it as `heat` says.

    Returns (3, H, W) in [-1, 1]. picture: (1 or 3, H, W) in [-1, 1]; heat: (H, W) in [0, 1].
    """
    if picture.ndim != 3 or heat.shape != picture.shape[1:]:
        raise ValueError(
            f"expected (C, H, W) and (H, W), got {tuple(picture.shape)} and {tuple(heat.shape)}"
        )
    colour = picture.clamp(-1, 1).expand(3, -1, -1)
    grey = torch.einsum("c,chw->hw", colour.new_tensor(GREYNESS), colour)
    share = 0.9 * heat.clamp(0, 1)
    return (1 - share) * grey + share * (2 * colour.new_tensor(ORANGE)[:, None, None] - 1)


@on_cpu
def plot_word_maps(
    pictures: Tensor, maps: Tensor, words: Sequence[Sequence[str]], ncols: int | None = None
) -> Figure:
    """Each picture, and after it the same once for each of its words, orange where it looks for the
    word.

    pictures: (N, 3, H, W) in [-1, 1]; maps: (N, W, H, W'), each stretched over its own range;
        words: N lists of W.
    """
    if maps.shape[:2] != (len(words), len(words[0])) or len(pictures) != len(maps):
        expected = (len(pictures), [len(row) for row in words])
        raise ValueError(
            f"expected maps for pictures and words {expected}, got {tuple(maps.shape)}"
        )
    low = maps.amin((2, 3), keepdim=True)
    high = maps.amax((2, 3), keepdim=True)
    scaled = (maps - low) / (high - low).clamp(min=1e-12)
    tiles, titles = [], []
    for picture, row, its_words in zip(pictures, scaled, words, strict=True):
        tiles += [picture.expand(3, -1, -1), *(overlay(picture, heat) for heat in row)]
        titles += ["", *its_words]
    return image_grid(tiles, titles, ncols=ncols or len(words[0]) + 1)


def map_pictures(maps: Tensor, colours: tuple[str, ...] = MAP_COLOURS) -> Tensor:
    """Semantic maps (N, H, W) of integers, each a number into `colours` ("#rrggbb"), as pictures
    (N, 3, H, W) in [-1, 1]: a colour says nothing but which class it is."""
    if maps.ndim != 3 or maps.is_floating_point():
        raise ValueError(f"expected integer maps (N, H, W), got {tuple(maps.shape)} {maps.dtype}")
    if maps.numel() and not 0 <= int(maps.min()) <= int(maps.max()) < len(colours):
        got = f"{int(maps.min())} to {int(maps.max())}"
        raise ValueError(f"expected classes from 0 to {len(colours) - 1}, got {got}")
    table = torch.tensor([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours])
    return (table / 127.5 - 1)[maps.long()].movedim(3, 1)


def _pixels(images: Images | Sequence[Images]) -> np.ndarray:
    """uint8 (N, h, w) or (N, h, w, 3)."""
    if not isinstance(images, (Tensor, np.ndarray)):
        images = _stacked(images)
    shape = tuple(images.shape)
    if isinstance(images, Tensor):
        if images.is_floating_point() and len(shape) == 4 and shape[1] in (1, 3):
            if not images.isfinite().all():
                raise ValueError("expected images in [-1, 1], got some that are not finite")
            return to_pixels(images.detach().float())
    elif images.dtype == np.uint8 and (len(shape) == 3 or shape[3:] == (3,)):
        return images
    expected = (
        "a float tensor (N, 1 or 3, h, w) in [-1, 1] or a uint8 array (N, h, w) or (N, h, w, 3)"
    )
    raise ValueError(f"expected images as {expected}, got {images.dtype} {shape}")


def _stacked(images: Sequence[Images]) -> Tensor | np.ndarray:
    """A list of pictures as one tensor or, of arrays, as one array."""
    pictures = [image for image in images if isinstance(image, (Tensor, np.ndarray))]
    shapes = {tuple(image.shape) for image in pictures}
    if len(pictures) < len(images) or len(shapes) != 1:
        raise ValueError(f"expected at least one image, all of one shape, got {sorted(shapes)}")
    tensors = [image for image in pictures if isinstance(image, Tensor)]
    return torch.stack(tensors) if len(tensors) == len(pictures) else np.stack(pictures)


def _columns(count: int, ncols: int | None) -> int:
    if count < 1 or (ncols is not None and ncols < 1):
        raise ValueError(
            f"expected at least one image and one column, got {count} images and ncols={ncols}"
        )
    return min(count, ncols or math.ceil(math.sqrt(count)))


def _show(
    sheet: np.ndarray, inches_per_pixel: float, ax: Axes | None, below: float = 0
) -> tuple[Figure, Axes]:
    """`sheet` in axes without frame or ticks: `ax`, or those of a new figure with `below` inches
    more for labels; and the figure."""
    if ax is None:
        height, width = sheet.shape[:2]
        with styled(
            width=max(width * inches_per_pixel, 1.0), height=height * inches_per_pixel + below
        ) as (figure, axes):
            ax = axes[0]
    else:
        figure = _figure_of(ax)
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    take_off_frame(ax)
    return figure, ax


def _figure_of(ax: Axes) -> Figure:
    """The figure that holds the axes, that of a part of a figure too."""
    from matplotlib.figure import SubFigure

    return ax.figure.figure if isinstance(ax.figure, SubFigure) else ax.figure
