"""Figures about scores: how they depend on the number of pictures, what they miss, balls around
points. Chapter 12.

Like `minildm.plots`, whose style they share: every function draws one figure and returns it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from minildm.plots.images import COLOURS, GREY, PAGE_WIDTH, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_against_size(
    sizes: Sequence[int], scores: Mapping[str, Tensor], xlabel: str = "number of pictures"
) -> Figure:
    """Scores of sets of several sizes, a panel for each name: every repeat a dot, their means a
    line.

    scores: name -> (len(sizes), repeats). The horizontal axis is logarithmic.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(scores), figsize=(PAGE_WIDTH, 2.8), squeeze=False)
        for ax, (name, values), colour in zip(axes[0], scores.items(), COLOURS, strict=False):
            for repeat in values.T:
                ax.plot(sizes, repeat, "o", color=colour, alpha=0.35, markersize=4)
            ax.plot(sizes, values.mean(1), color=colour, linewidth=1.6)
            ax.axhline(0, color=GREY, linewidth=1, zorder=1)
            ax.set(xscale="log", xlabel=xlabel, ylabel=name)
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter(NullFormatter())
    plt.close(figure)
    return figure


def plot_table(
    rows: Mapping[str, Sequence[float]],
    columns: Sequence[str],
    alarms: Mapping[str, Sequence[bool]],
) -> Figure:
    """Numbers in a table, those that raise an alarm on a coloured ground. rows, alarms: name -> a
    value a column; nan where there is none."""
    import matplotlib.pyplot as plt

    if any(len(values) != len(columns) for values in (*rows.values(), *alarms.values())) or list(
        rows
    ) != list(alarms):
        raise ValueError(
            f"expected {len(columns)} numbers and alarms in every row, got {rows} and {alarms}"
        )
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 0.36 * len(rows) + 0.6))
        marks = [[float(alarm) for alarm in row] for row in alarms.values()]
        ax.imshow(marks, "Oranges", vmin=0, vmax=2, aspect="auto")
        for i, values in enumerate(rows.values()):
            for j, value in enumerate(values):
                number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
                ax.text(j, i, "–" if math.isnan(value) else number, ha="center", va="center")
        ax.set_xticks(range(len(columns)), columns)
        ax.set_yticks(range(len(rows)), list(rows))
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
    plt.close(figure)
    return figure


def plot_balls(real: Tensor, radius: Tensor, generated: Tensor, inside: Tensor) -> Figure:
    """Points in a plane: a ball of `radius` (N,) around every real one (N, 2), and the generated
    ones (M, 2), filled where they are `inside` (M,) of some ball."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(0.75 * PAGE_WIDTH, PAGE_WIDTH / 2))
        for centre, r in zip(real.tolist(), radius.tolist(), strict=True):
            ax.add_patch(plt.Circle(centre, r, facecolor=COLOURS[0], alpha=0.1, edgecolor="none"))
        ax.plot(*real.T, ".", color=COLOURS[0], markersize=5, label="real")
        for chosen, fill, name in (
            (inside, COLOURS[1], "generated, inside"),
            (~inside, "none", "generated, outside"),
        ):
            ax.plot(
                *generated[chosen].T,
                "o",
                color=COLOURS[1],
                markerfacecolor=fill,
                markersize=6,
                label=name,
            )
        ax.set(aspect="equal", xticks=[], yticks=[])
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    plt.close(figure)
    return figure


def plot_repeats(
    values: Mapping[str, Sequence[float]], xlabel: str, logarithmic: bool = False
) -> Figure:
    """A line for each name: every repeat a dot, their mean a stroke. What is more than chance is
    seen at once."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 0.4 * len(values) + 0.8))
        for row, numbers in enumerate(values.values()):
            ax.plot(numbers, [row] * len(numbers), "o", color=COLOURS[0], alpha=0.6)
            ax.plot(
                [sum(numbers) / len(numbers)] * 2,
                [row - 0.3, row + 0.3],
                color=COLOURS[1],
                linewidth=2.5,
            )
        ax.set_yticks(range(len(values)), list(values))
        ax.set(
            xlabel=xlabel, xscale="log" if logarithmic else "linear", ylim=(len(values) - 0.5, -0.5)
        )
    plt.close(figure)
    return figure
