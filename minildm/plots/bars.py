"""Bars and rows of dots: how often a value occurs, what is reached, what it costs. Chapters 01, 04,
07, 09 and 12."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from minildm.device import on_cpu
from minildm.plots.style import COLOURS, GREY, LOOKS, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@on_cpu
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
    numbers = {name: value.detach().float().flatten().numpy() for name, value in values.items()}
    lowest = min(value.min() for value in numbers.values())
    highest = max(value.max() for value in numbers.values())
    edges = np.linspace(lowest, highest, bins + 1)
    with styled(height=2.8) as (figure, (ax,)):
        for (name, value), (colour, dashes) in zip(numbers.items(), LOOKS, strict=False):
            counts, _ = np.histogram(value, edges)  # torch.histc counts no further than 2^24
            share = counts / len(value)
            ax.stairs(share, edges, color=colour, linestyle=dashes, linewidth=1.6, label=name)
            ax.stairs(share, edges, color=colour, alpha=0.12, fill=True)
        ax.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
        figure.legend(loc="outside upper center", ncols=4, handlelength=3.2)
    return figure


@on_cpu
def plot_groups(
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    xlabel: str,
    limits: Mapping[str, float] | None = None,
) -> Figure:
    """Bars in groups: one group for each question, in it one for each way; a dot for each seed.

    scores: question -> way -> one number in [0, 1] for each seed. limits: question -> what can be
        reached at best.
    """
    groups = [list(group) for group in scores.values()]
    ways = groups[0]
    if not ways or any(group != ways for group in groups):
        raise ValueError(f"expected the same ways in every group, got {groups}")
    thickness = 0.8 / len(ways)
    with styled(height=0.9 + 0.24 * len(scores) * (len(ways) + 0.8)) as (figure, (ax,)):
        for k, way in enumerate(ways):
            colour = COLOURS[k]
            rows = [i + (k - (len(ways) - 1) / 2) * thickness for i in range(len(scores))]
            means = [sum(group[way]) / len(group[way]) for group in scores.values()]
            ax.barh(rows, means, height=0.9 * thickness, color=colour, alpha=0.55, label=way)
            for row, group in zip(rows, scores.values(), strict=True):
                ax.plot(group[way], [row] * len(group[way]), "o", color=colour, markersize=4)
        for i, question in enumerate(scores):
            if limits and question in limits:
                label = "at best" if i == 0 else None
                ends = [i - 0.45, i + 0.45]
                ax.plot([limits[question]] * 2, ends, "--", color=GREY, label=label)
        ax.set_yticks(range(len(scores)), list(scores))
        ax.invert_yaxis()
        ax.set(xlabel=xlabel, xlim=(0, 1.02))
        ax.grid(axis="y", visible=False)
        figure.legend(loc="outside upper center", ncols=4, handlelength=2.0)
    return figure


@on_cpu
def plot_scores(
    scores: Mapping[str, Sequence[float]], xlabel: str, floor: float | None = None
) -> Figure:
    """A row for each name: a bar to the mean of its scores, and a dot for each of them.

    scores: name -> one number a seed; floor: the score of real pictures, as a dashed line.
    """
    if not scores or not all(len(values) for values in scores.values()):
        raise ValueError(f"expected scores for each name, got {dict(scores)}")
    with styled(height=0.8 + 0.3 * len(scores)) as (figure, (ax,)):
        for row, values in enumerate(scores.values()):
            ax.barh(row, sum(values) / len(values), color=COLOURS[5], height=0.6)
            ax.plot(values, [row] * len(values), "o", color=COLOURS[0], markersize=4)
        ax.set_yticks(range(len(scores)), list(scores))
        ax.invert_yaxis()
        ax.set_xlabel(xlabel)
        ax.grid(axis="y", visible=False)
        if floor is not None:
            ax.axvline(floor, color=COLOURS[6], linestyle="--", linewidth=1, label="real digits")
            ax.legend(loc="lower right")
    return figure


@on_cpu
def plot_repeats(
    values: Mapping[str, Sequence[float]], xlabel: str, logarithmic: bool = False
) -> Figure:
    """A line for each name: every repeat a dot, their mean a stroke. What is more than chance is
    seen at once."""
    with styled(height=0.4 * len(values) + 0.8) as (figure, (ax,)):
        for row, numbers in enumerate(values.values()):
            mean = sum(numbers) / len(numbers)
            ax.plot(numbers, [row] * len(numbers), "o", color=COLOURS[0], alpha=0.6)
            ax.plot([mean, mean], [row - 0.3, row + 0.3], color=COLOURS[1], linewidth=2.5)
        ax.set_yticks(range(len(values)), list(values))
        ax.set(xlabel=xlabel, xscale="log" if logarithmic else "linear")
        ax.set_ylim(len(values) - 0.5, -0.5)
    return figure


@on_cpu
def plot_costs(panels: Mapping[str, Mapping[str, float]]) -> Figure:
    """Bars on a logarithmic axis, a panel for each kind of cost (its label), each bar with its
    number beside it.

    panels: label of the axis, with the unit -> name -> cost, positive; the names are the same in
        all panels.
    """
    names = list(next(iter(panels.values()), {}))
    if not names or any(
        list(costs) != names or min(costs.values()) <= 0 for costs in panels.values()
    ):
        raise ValueError(
            f"expected positive costs of the same names in each panel, got {dict(panels)}"
        )
    height = 0.9 + 0.35 * len(names)
    with styled(1, len(panels), height=height, sharey=True) as (figure, axes):
        for ax, (xlabel, costs) in zip(axes, panels.items(), strict=True):
            low, high = min(costs.values()) / 3, max(costs.values())
            for row, value in enumerate(costs.values()):
                ax.barh(row, value - low, left=low, color=COLOURS[row % len(COLOURS)], height=0.6)
                number = f" {value:,.3g}" if value < 1000 else f" {value:,.0f}"
                ax.text(value, row, number, va="center", fontsize=8)
            right = high * (high / low) ** 0.35  # room for the numbers
            ax.set(xscale="log", xlabel=xlabel, xlim=(low, right))
            ax.grid(axis="y", visible=False)
            ax.set_axisbelow(True)
            ax.minorticks_off()
        axes[0].set_yticks(range(len(names)), names)
        axes[0].invert_yaxis()
    return figure
