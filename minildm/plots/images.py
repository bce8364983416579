"""The figures of the course: pictures in a grid, pictures in a row, and noise schedules (colours:
Okabe & Ito 2008). Chapters 00 and 02.

Every function draws one figure and returns it: as the last line of a cell it is shown, once. Given
`ax`, it draws there and returns that figure. matplotlib is imported when a figure is drawn:
`save_grid` does without it.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from minildm.data.datasets import to_pixels
from minildm.files import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE_WIDTH = 7.2  # inches; at 120 dots per inch the width of the book's column
TILE = 0.9  # inches; an image is no wider
SNR_RANGE = (1e-6, 1e5)

# Seven colours that the colour-blind can tell apart. In a grey print two of them look alike, so
# each line has its own dashes as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (7, 3)))
GREY = "#6B6B6B"  # for what explains the data, as against the data

STYLE = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "font.size": 10,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "xtick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.color": GREY,
    "ytick.labelcolor": "black",
}

Images = Tensor | np.ndarray | Sequence[Tensor]


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
    down, right = band + height + gap, width + gap
    sheet = np.full((nrows * down - gap, ncols * right - gap, *pixels.shape[3:]), 255, np.uint8)
    for i, image in enumerate(pixels):
        top, left = i // ncols * down + band, i % ncols * right
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
    lines = [
        textwrap.wrap(title, width=max(8, int(tile / 0.065)), max_lines=3) for title in titles or ()
    ]
    band = round(
        max(map(len, lines), default=0) * 0.15 / tile * width
    )  # the room for the titles, in pixels
    ax = _show(mosaic(pixels, ncols, gap, band), tile / width, ax)
    for i, words in enumerate(lines):
        x, y = i % ncols * (width + gap) + width / 2, i // ncols * (band + height + gap) + band - 1
        ax.text(x, y, "\n".join(words), ha="center", va="bottom", fontsize=8, linespacing=1.0)
    return ax.figure


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
    strips = [_pixels(strip) for strip in (frames if row_labels is not None else [frames])]
    if row_labels is not None and len(row_labels) != len(strips):
        raise ValueError(
            f"expected a label for each of the {len(strips)} strips, got {len(row_labels)}"
        )
    if any(len(strip) != len(labels) for strip in strips):
        raise ValueError(
            f"expected {len(labels)} frames, one for each label, got {[len(strip) for strip in strips]}"
        )
    height, width = strips[0].shape[1:3]
    tile = min(TILE, PAGE_WIDTH / len(labels))
    below = 0.45 if xlabel else 0.25
    ax = _show(mosaic(np.concatenate(strips), len(labels), gap), tile / width, ax, below)
    ax.set_xticks([i * (width + gap) + (width - 1) / 2 for i in range(len(labels))], labels)
    longest = max([1, *(len(line) for label in labels for line in str(label).split("\n"))])
    fits = (
        72 * tile / (0.6 * longest)
    )  # points at which the longest label is about as wide as its frame
    ax.tick_params(axis="x", labelsize=min(STYLE["font.size"], max(fits, 6)))
    if row_labels is not None:
        ax.set_yticks(
            [i * (height + gap) + (height - 1) / 2 for i in range(len(strips))], row_labels
        )
    ax.set_xlabel(xlabel)
    return ax.figure


def plot_schedules(schedules: Mapping[str, Tensor]) -> Figure:
    """Noise schedules side by side: on the left what is left of the picture, ᾱ_t; on the right the
    ratio of signal to noise, SNR = ᾱ_t / (1 - ᾱ_t), on a logarithmic scale, where one that ends in
    pure noise leaves through the floor.

    schedules: name -> alphas_cumprod (T,) in [0, 1]; at most seven.
    """
    import matplotlib.pyplot as plt

    if not 1 <= len(schedules) <= len(COLOURS):
        raise ValueError(f"expected 1 to {len(COLOURS)} schedules, got {len(schedules)}")
    for name, remaining in schedules.items():
        if remaining.ndim != 1 or not ((0 <= remaining) & (remaining <= 1)).all():
            raise ValueError(
                f"expected alphas_cumprod (T,) in [0, 1] for {name!r}, got {tuple(remaining.shape)}"
            )
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 3.0))
        for (name, remaining), colour, dashes in zip(
            schedules.items(), COLOURS, DASHES, strict=False
        ):
            remaining = remaining.double()
            snr = (remaining / (1 - remaining)).clamp(SNR_RANGE[0] / 1e3, SNR_RANGE[1] * 1e3)
            left.plot(remaining, color=colour, linestyle=dashes, label=name)
            right.plot(snr, color=colour, linestyle=dashes)
        left.set(title="What is left of the picture", ylim=(-0.02, 1.02))
        left.set_ylabel(r"$\bar\alpha_t$, share of the variance")
        right.set(title="Signal against noise", yscale="log", ylim=SNR_RANGE)
        right.set_ylabel(r"SNR $=\bar\alpha_t\,/\,(1-\bar\alpha_t)$")
        right.axhline(1, color=GREY, linewidth=1, zorder=1)
        right.text(
            0, 2 * SNR_RANGE[0], "below the line: more noise\nthan picture", fontsize=8, color=GREY
        )
        for ax in (left, right):
            ax.set_xlabel("timestep t (steps of noise added)")
        figure.legend(
            loc="outside upper center",
            ncols=max(1, 90 // (max(map(len, schedules)) + 10)),
            handlelength=3.2,
        )
    plt.close(figure)
    return figure


def plot_moments(
    values: Tensor,
    mean: Tensor,
    variance: Tensor,
    xlabel: str = "pixel along the row",
    ylabel: str = "brightness",
) -> Figure:
    """What many runs came to, as dots, against what a formula says of them, as a line; mean ± one
    standard deviation.

    values: (runs, positions); mean: (positions,); variance: () or (positions,).
    """
    import matplotlib.pyplot as plt

    deviation = variance**0.5 * torch.ones_like(mean)
    place = range(len(mean))
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 2.8))
        ax.plot(place, mean, color=COLOURS[0], label="formula: mean")
        ax.fill_between(
            place, mean - deviation, mean + deviation, color=COLOURS[0], alpha=0.15, linewidth=0
        )
        for sign in (-1, 1):
            label = "formula: one standard deviation off" if sign > 0 else None
            ax.plot(
                place,
                mean + sign * deviation,
                color=COLOURS[0],
                linestyle="--",
                linewidth=1,
                label=label,
            )
        dots = {"color": COLOURS[1], "linestyle": "", "markersize": 4}
        ax.plot(place, values.mean(0), marker="o", label=f"measured: {len(values):,} runs", **dots)
        for sign in (-1, 1):
            ax.plot(
                place, values.mean(0) + sign * values.std(0), marker="o", fillstyle="none", **dots
            )
        ax.set(xlabel=xlabel, ylabel=ylabel)
        figure.legend(loc="outside upper center", ncols=3)
    plt.close(figure)
    return figure


def plot_densities(
    x: Tensor,
    densities: Mapping[str, Tensor],
    samples: Tensor | None = None,
    xlabel: str = "",
    title: str = "",
) -> Figure:
    """Densities over one axis, as lines, and samples of the last of them, as a histogram.

    x: (N,), evenly spaced; densities: name -> (N,), scaled here so that each has area 1; samples:
        (M,).
    """
    import matplotlib.pyplot as plt

    step = float(x[1] - x[0])
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 2.8))
        for (name, density), colour, dashes in zip(
            densities.items(), COLOURS, DASHES, strict=False
        ):
            ax.plot(x, density / (density.sum() * step), color=colour, linestyle=dashes, label=name)
        if samples is not None:
            label = f"measured: {len(samples):,} samples"
            last = COLOURS[len(densities) - 1]
            ax.hist(samples.numpy(), bins=60, density=True, color=last, alpha=0.25, label=label)
        ax.set(xlabel=xlabel, ylabel="density", title=title, xlim=(float(x[0]), float(x[-1])))
        figure.legend(loc="outside right upper", handlelength=3.2)
    plt.close(figure)
    return figure


def plot_histograms(
    values: Mapping[str, Tensor],
    xlabel: str = "",
    ylabel: str = "share",
    bins: int = 50,
    log: bool = False,
) -> Figure:
    """How often each value occurs, an outline for each set of numbers; the heights of one outline
    add up to 1.

    values: name -> numbers of any shape; all share the bins. log: the vertical axis is logarithmic.
    """
    import matplotlib.pyplot as plt

    numbers = {name: value.detach().float().flatten().numpy() for name, value in values.items()}
    ends = [end for value in numbers.values() for end in (value.min(), value.max())]
    edges = np.linspace(min(ends), max(ends), bins + 1)
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 2.8))
        for (name, value), colour, dashes in zip(numbers.items(), COLOURS, DASHES, strict=False):
            share = np.histogram(value, edges)[0] / len(
                value
            )  # torch.histc counts no further than 2^24
            ax.stairs(share, edges, color=colour, linestyle=dashes, linewidth=1.6, label=name)
            ax.stairs(share, edges, color=colour, alpha=0.12, fill=True)
        ax.set(xlabel=xlabel, ylabel=ylabel, **({"yscale": "log"} if log else {}))
        figure.legend(loc="outside upper center", ncols=4, handlelength=3.2)
    plt.close(figure)
    return figure


def plot_spectra(spectra: Mapping[str, Tensor], share: float = 0.9) -> Figure:
    """How much of the variance the first k directions hold, and with a dot how many hold `share` of
    it.

    spectra: name -> variances (D,) along the directions, the largest first; k has a logarithmic
        axis.
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 3.2))
        for (name, variances), colour, dashes in zip(
            spectra.items(), COLOURS, DASHES, strict=False
        ):
            held = variances.double().cumsum(0) / variances.double().sum()
            count = int((held < share).sum()) + 1
            label = f"{name}: {count:,} of {len(held):,}"
            ax.plot(range(1, len(held) + 1), held, color=colour, linestyle=dashes, label=label)
            ax.plot(count, held[count - 1], color=colour, marker="o", markersize=6)
        ax.axhline(share, color=GREY, linewidth=1, zorder=1)
        ax.set(
            xscale="log",
            xlabel="directions k, the widest first",
            ylabel="share of the variance",
            ylim=(0, 1.02),
        )
        figure.legend(loc="outside upper center", ncols=2, handlelength=3.2)
    plt.close(figure)
    return figure


def _pixels(images: Images) -> np.ndarray:
    """uint8 (N, h, w) or (N, h, w, 3)."""
    if isinstance(images, (list, tuple)):
        shapes = {tuple(image.shape) for image in images}
        if len(shapes) != 1:
            raise ValueError(f"expected at least one image, all of one shape, got {sorted(shapes)}")
        images = np.stack(images) if isinstance(images[0], np.ndarray) else torch.stack(images)
    shape = tuple(images.shape)
    if (
        isinstance(images, Tensor)
        and images.is_floating_point()
        and len(shape) == 4
        and shape[1] in (1, 3)
    ):
        if not images.isfinite().all():
            raise ValueError("expected images in [-1, 1], got some that are not finite")
        return to_pixels(images.detach().float())
    saved = np.asarray(images)
    if (
        not isinstance(images, Tensor)
        and saved.dtype == np.uint8
        and (len(shape) == 3 or shape[3:] == (3,))
    ):
        return saved
    expected = (
        "a float tensor (N, 1 or 3, h, w) in [-1, 1] or a uint8 array (N, h, w) or (N, h, w, 3)"
    )
    raise ValueError(f"expected images as {expected}, got {images.dtype} {shape}")


def _columns(count: int, ncols: int | None) -> int:
    if count < 1 or (ncols is not None and ncols < 1):
        raise ValueError(
            f"expected at least one image and one column, got {count} images and ncols={ncols}"
        )
    return min(count, ncols or math.ceil(math.sqrt(count)))


def _show(sheet: np.ndarray, inches_per_pixel: float, ax: Axes | None, below: float = 0) -> Axes:
    """`sheet` in axes without frame or ticks: `ax`, or those of a new figure with `below` inches
    more for labels."""
    import matplotlib.pyplot as plt

    if ax is None:
        with plt.rc_context(STYLE):
            height, width = sheet.shape[:2]
            size = (max(width * inches_per_pixel, 1.0), height * inches_per_pixel + below)
            figure, ax = plt.subplots(figsize=size)
        plt.close(figure)
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return ax
