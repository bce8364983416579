"""Figures of what a network holds, and of what it loses when a part is taken away. Chapter 04."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from minildm.plots.images import COLOURS, DASHES, GREY, PAGE_WIDTH, STYLE, plot_filmstrip

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_feature_maps(maps: Mapping[str, Tensor], count: int = 8, size: int = 32) -> Figure:
    """A row of feature maps for each name: the first `count` channels, each stretched over its own
    range of values.

    maps: name -> (C, h, w), C of at least `count`; shown `size` pixels wide, without smoothing.
    """
    rows = []
    for name, channels in maps.items():
        if channels.ndim != 3 or len(channels) < count:
            raise ValueError(
                f"expected at least {count} channels (C, h, w) for {name!r}, got {tuple(channels.shape)}"
            )
        chosen = channels[:count, None].detach().float().contiguous()
        low, high = chosen.amin((1, 2, 3), keepdim=True), chosen.amax((1, 2, 3), keepdim=True)
        chosen = (chosen - low) / (high - low).clamp(min=1e-8) * 2 - 1
        rows.append(F.interpolate(chosen, size=(size, size), mode="nearest"))
    return plot_filmstrip(rows, [str(i) for i in range(count)], list(maps), xlabel="channel")


def plot_curves(
    x: Sequence[float],
    curves: Mapping[str, Tensor],
    xlabel: str,
    ylabel: str,
    title: str = "",
    logarithmic: bool = False,
    level: float | None = None,
) -> Figure:
    """Lines over one axis; of several seeds the mean, with one standard deviation to either side as
    a bar.

    curves: name -> (len(x),) or (seeds, len(x)), at most seven; level: where a thin grey line lies.
    """
    import matplotlib.pyplot as plt

    if not 1 <= len(curves) <= len(COLOURS):
        raise ValueError(f"expected 1 to {len(COLOURS)} curves, got {len(curves)}")
    for name, values in curves.items():
        if values.ndim not in (1, 2) or values.shape[-1] != len(x):
            raise ValueError(
                f"expected ({len(x)},) or (seeds, {len(x)}) for {name!r}, got {tuple(values.shape)}"
            )
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 3.2))
        if level is not None:
            ax.axhline(level, color=GREY, linewidth=1, zorder=1)
        for (name, values), colour, dashes in zip(curves.items(), COLOURS, DASHES, strict=False):
            style = {"color": colour, "linestyle": dashes, "label": name}
            if values.ndim == 2 and len(values) > 1:
                ax.errorbar(x, values.mean(0), values.std(0), capsize=2, elinewidth=1, **style)
            else:
                ax.plot(x, values.reshape(-1, len(x))[0], **style)
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title, yscale="log" if logarithmic else "linear")
        figure.legend(loc="outside right upper", handlelength=3.2)
    plt.close(figure)
    return figure


def plot_scores(
    scores: Mapping[str, Sequence[float]], xlabel: str, floor: float | None = None
) -> Figure:
    """A row for each name: a bar to the mean of its scores, and a dot for each of them.

    scores: name -> one number a seed; floor: the score of real pictures, as a dashed line.
    """
    import matplotlib.pyplot as plt

    if not scores or not all(len(values) for values in scores.values()):
        raise ValueError(f"expected scores for each name, got {dict(scores)}")
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 0.8 + 0.3 * len(scores)))
        for row, values in enumerate(scores.values()):
            ax.barh(row, sum(values) / len(values), color=COLOURS[5], height=0.6)
            ax.plot(
                values,
                [row] * len(values),
                color=COLOURS[0],
                marker="o",
                markersize=4,
                linestyle="",
            )
        ax.set_yticks(range(len(scores)), list(scores))
        ax.invert_yaxis()
        ax.set_xlabel(xlabel)
        ax.grid(axis="y", visible=False)
        if floor is not None:
            ax.axvline(floor, color=COLOURS[6], linestyle="--", linewidth=1, label="real digits")
            ax.legend(loc="lower right")
    plt.close(figure)
    return figure
