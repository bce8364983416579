"""Figures of sampling: paths from noise to data, errors against steps, quality against cost.
Chapter 05.

Like `minildm.plots`, whose style they share: every function draws one figure and returns it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

from minildm.plots.images import COLOURS, DASHES, GREY, PAGE_WIDTH, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "osD^vPX"
ROUND = (1, 2, 5, 10, 20, 50, 100, 200, 500)

Curve = tuple[Sequence[float], Sequence[float]]


def plot_paths(
    runs: Mapping[str, tuple[Tensor, Tensor]], xlabel: str = "", ylabel: str = ""
) -> Figure:
    """How single numbers travel from noise, on the left, to data, on the right; a panel for each
    run.

    runs: title -> (sigmas (S,), falling; x (S, N), N paths).
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(runs), figsize=(PAGE_WIDTH, 2.9), sharey=True, squeeze=False
        )
        for ax, (title, (sigmas, x)) in zip(axes[0], runs.items(), strict=True):
            ax.plot(
                sigmas,
                x,
                color=COLOURS[0],
                linewidth=0.9,
                marker="." if len(sigmas) < 15 else "",
                markersize=4,
            )
            ax.set(title=title, xlabel=xlabel)
            ax.invert_xaxis()
        axes[0, 0].set_ylabel(ylabel)
    plt.close(figure)
    return figure


def plot_convergence(
    errors: Mapping[str, Curve],
    slopes: Mapping[str, float],
    xlabel: str = "steps",
    ylabel: str = "error",
) -> Figure:
    """Errors against steps, both logarithmic: a method of order p falls along a line of slope -p.

    errors: name -> (steps, errors), each of one length, all positive; slopes: name -> the fitted
    slope, for the legend. The grey lines have the slopes -1 and -2.
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 3.4))
        for i, (name, (steps, error)) in enumerate(errors.items()):
            label = f"{name}: slope {slopes[name]:.2f}"
            ax.plot(
                steps,
                error,
                color=COLOURS[i],
                linestyle=DASHES[i],
                marker=MARKERS[i],
                markersize=4,
                label=label,
            )
        steps = [float(step) for step in next(iter(errors.values()))[0]]
        top = 1.5 * max(max(error) for _, error in errors.values())
        for order in (1, 2):
            guide = [top * (steps[0] / step) ** order for step in (steps[0], steps[-1])]
            ax.plot([steps[0], steps[-1]], guide, color=GREY, linewidth=0.8, zorder=1)
            ax.text(steps[-1], guide[-1], f" order {order}", color=GREY, fontsize=8, va="center")
        ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
        ax.set_xticks(steps, [f"{step:g}" for step in steps])
        ax.minorticks_off()
        figure.legend(loc="outside right upper", handlelength=3.2)
    plt.close(figure)
    return figure


def plot_quality(
    panels: Mapping[str, Mapping[str, Curve]],
    ylabel: str,
    floor: float | None = None,
    log: bool = True,
) -> Figure:
    """A score against its cost, a panel for each kind of cost (its label) and a line for each
    sampler.

    panels: label of the horizontal axis -> name -> (costs, scores); floor: the score of real
        pictures, a grey line.
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(PAGE_WIDTH, 3.4), sharey=True, squeeze=False
        )
        for ax, (xlabel, curves) in zip(axes[0], panels.items(), strict=True):
            for i, (name, (costs, scores)) in enumerate(curves.items()):
                look = {
                    "color": COLOURS[i],
                    "linestyle": DASHES[i],
                    "marker": MARKERS[i],
                    "markersize": 4,
                }
                ax.plot(costs, scores, label=name if ax is axes[0, 0] else None, **look)
            ax.set(xscale="log", xlabel=xlabel, **({"yscale": "log"} if log else {}))
            ticks = sorted({cost for costs, _ in curves.values() for cost in costs})
            overlap = len(ticks) > 8 or any(b < 1.15 * a for a, b in pairwise(ticks))
            ax.set_xticks(
                ROUND if overlap else ticks, [f"{tick:g}" for tick in (ROUND if overlap else ticks)]
            )
            ax.set_xlim(ticks[0] / 1.1, ticks[-1] * 1.1)
            ax.minorticks_off()
            if floor is not None:
                ax.axhline(floor, color=GREY, linewidth=1)
        if log:
            limits = axes[0, 0].get_ylim()
            axes[0, 0].set_yticks(ROUND, [str(tick) for tick in ROUND])
            axes[0, 0].set_ylim(limits)
        if floor is not None:
            axes[0, 0].text(0.02, floor, "real pictures", color=GREY, fontsize=8, va="bottom",
                            transform=axes[0, 0].get_yaxis_transform())  # fmt: skip
        axes[0, 0].set_ylabel(ylabel)
        figure.legend(loc="outside upper center", ncols=4, handlelength=3.2)
    plt.close(figure)
    return figure
