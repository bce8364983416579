"""Figures of what a prompt does: words over the picture, scores of several ways to be told, gain
against loss. Chapter 09."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minildm.plots.images import COLOURS, DASHES, GREY, PAGE_WIDTH, STYLE, image_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORANGE = (1.0, 0.45, 0.0)  # of an overlay: no digit and no ground of DigitScenes has it
GREYNESS = (0.299, 0.587, 0.114)  # how bright red, green and blue look


def overlay(picture: Tensor, heat: Tensor) -> Tensor:
    """The picture in grey with orange laid over it, as much of it as `heat` says: (3, H, W) in [-1,
    1].

    picture: (1 or 3, H, W) in [-1, 1]; heat: (H, W) in [0, 1].
    """
    if picture.ndim != 3 or heat.shape != picture.shape[1:]:
        raise ValueError(
            f"expected (C, H, W) and (H, W), got {tuple(picture.shape)} and {tuple(heat.shape)}"
        )
    colour = picture.clamp(-1, 1).expand(3, -1, -1)
    grey = torch.einsum("c,chw->hw", colour.new_tensor(GREYNESS), colour)
    share = 0.9 * heat.clamp(0, 1)
    return (1 - share) * grey + share * (2 * colour.new_tensor(ORANGE)[:, None, None] - 1)


def plot_word_maps(
    pictures: Tensor, maps: Tensor, words: Sequence[Sequence[str]], ncols: int | None = None
) -> Figure:
    """Each picture, and after it the same once for each of its words, orange where it looks for the
    word.

    pictures: (N, 3, H, W) in [-1, 1]; maps: (N, W, H, W'), each stretched over its own range;
        words: N lists of W.
    """
    if maps.shape[:2] != (len(words), len(words[0])) or len(pictures) != len(maps):
        expected, got = (len(pictures), [len(row) for row in words]), tuple(maps.shape)
        raise ValueError(f"expected maps for pictures and words {expected}, got {got}")
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    scaled = (maps - low) / (high - low).clamp(min=1e-12)
    tiles, titles = [], []
    for picture, row, its_words in zip(pictures, scaled, words, strict=True):
        tiles += [picture.expand(3, -1, -1), *(overlay(picture, heat) for heat in row)]
        titles += ["", *its_words]
    return image_grid(tiles, titles, ncols=ncols or len(words[0]) + 1)


def plot_groups(
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    xlabel: str,
    limits: Mapping[str, float] | None = None,
) -> Figure:
    """Bars in groups: one group for each question, in it one for each way; a dot for each seed.

    scores: question -> way -> one number in [0, 1] for each seed. limits: question -> what can be
        reached at best.
    """
    import matplotlib.pyplot as plt

    ways = list(next(iter(scores.values())))
    if not ways or any(list(group) != ways for group in scores.values()):
        raise ValueError(
            f"expected the same ways in every group, got {[list(group) for group in scores.values()]}"
        )
    height = 0.8 / len(ways)
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(
            figsize=(PAGE_WIDTH, 0.9 + 0.24 * len(scores) * (len(ways) + 0.8))
        )
        for k, way in enumerate(ways):
            rows = [i + (k - (len(ways) - 1) / 2) * height for i in range(len(scores))]
            means = [sum(group[way]) / len(group[way]) for group in scores.values()]
            ax.barh(rows, means, height=0.9 * height, color=COLOURS[k], alpha=0.55, label=way)
            for row, group in zip(rows, scores.values(), strict=True):
                ax.plot(
                    group[way],
                    [row] * len(group[way]),
                    color=COLOURS[k],
                    marker="o",
                    markersize=4,
                    linestyle="",
                )
        for i, question in enumerate(scores):
            if limits and question in limits:
                label = "at best" if i == 0 else None
                ax.plot(
                    [limits[question]] * 2,
                    [i - 0.45, i + 0.45],
                    color=GREY,
                    linestyle="--",
                    label=label,
                )
        ax.set_yticks(range(len(scores)), list(scores))
        ax.invert_yaxis()
        ax.set(xlabel=xlabel, xlim=(0, 1.02))
        ax.grid(axis="y", visible=False)
        figure.legend(loc="outside upper center", ncols=4, handlelength=2.0)
    plt.close(figure)
    return figure


def plot_side_by_side(
    x: Sequence[float],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    xlabel: str,
    levels: Sequence[float] = (),
) -> Figure:
    """A panel for each quantity over one axis, in each a line for each name.

    panels: quantity -> name -> len(x) numbers. levels: a thin line in each panel, for comparison.
    """
    import matplotlib.pyplot as plt

    for quantity, curves in panels.items():
        if wrong := {name: len(values) for name, values in curves.items() if len(values) != len(x)}:
            raise ValueError(
                f"expected {len(x)} numbers for each line of {quantity!r}, got {wrong}"
            )
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(PAGE_WIDTH, 2.9), squeeze=False)
        for i, (ax, (quantity, curves)) in enumerate(zip(axes[0], panels.items(), strict=True)):
            for (name, values), colour, dashes in zip(
                curves.items(), COLOURS, DASHES, strict=False
            ):
                ax.plot(
                    x, values, color=colour, linestyle=dashes, marker="o", markersize=3, label=name
                )
            if i < len(levels):
                ax.axhline(levels[i], color=GREY, linewidth=1, zorder=1)
            ax.set(title=quantity, xlabel=xlabel)
            if len(curves) > 1:
                ax.legend(fontsize=8)
    plt.close(figure)
    return figure
