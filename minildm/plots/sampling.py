"""Figures of sampling: paths from noise to data and where they end, errors against steps, quality
against cost. Chapters 05 and 15."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

from minildm.device import on_cpu
from minildm.plots.style import COLOURS, DASHES, GREY, MARKERS, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROUND = (1, 2, 5, 10, 20, 50, 100, 200, 500)

Curve = tuple[Sequence[float], Sequence[float]]


@on_cpu
def plot_paths(
    runs: Mapping[str, tuple[Tensor, Tensor]], xlabel: str = "", ylabel: str = ""
) -> Figure:
    """How single numbers travel from noise, on the left, to data, on the right; a panel for each
    run.

    runs: title -> (sigmas (S,), falling; x (S, N), N paths).
    """
    with styled(1, len(runs), height=2.9, sharey=True) as (figure, axes):
        for ax, (title, (sigmas, x)) in zip(axes, runs.items(), strict=True):
            marker = "." if len(sigmas) < 15 else ""
            ax.plot(sigmas, x, marker=marker, color=COLOURS[0], linewidth=0.9, markersize=4)
            ax.set(title=title, xlabel=xlabel)
            ax.invert_xaxis()
        axes[0].set_ylabel(ylabel)
    return figure


@on_cpu
def plot_ends(timesteps: Tensor, panels: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """Paths of single numbers from noise, on the left, to data, and what is said of each point of
    them: where its path ends. A panel for each title, a line for each path, which is flat where
    every point names the same end.

    timesteps: (S,), falling; panels: title -> (paths (S, N), ends (S, N)).
    """
    with styled(1, len(panels), height=3.0, sharey=True) as (figure, axes):
        for ax, (title, (paths, ends)) in zip(axes, panels.items(), strict=True):
            ax.plot(timesteps, paths, color=GREY, linewidth=0.6, alpha=0.5)
            ax.plot(timesteps, ends, color=COLOURS[0], linewidth=0.9)
            ax.set(title=title, xlabel="timestep: noise on the left, data on the right")
            ax.invert_xaxis()
        axes[0].set_ylabel("x (grey) and its end (blue)")
    return figure


@on_cpu
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
    with styled(height=3.4) as (figure, (ax,)):
        for i, (name, (steps, error)) in enumerate(errors.items()):
            ax.plot(
                steps,
                error,
                color=COLOURS[i],
                linestyle=DASHES[i],
                marker=MARKERS[i],
                markersize=4,
                label=f"{name}: slope {slopes[name]:.2f}",
            )
        steps = [float(step) for step in next(iter(errors.values()))[0]]
        first, last = steps[0], steps[-1]
        top = 1.5 * max(max(error) for _, error in errors.values())
        for order in (1, 2):
            end = top * (first / last) ** order
            ax.plot([first, last], [top, end], color=GREY, linewidth=0.8, zorder=1)
            ax.text(last, end, f" order {order}", color=GREY, fontsize=8, va="center")
        ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
        ax.set_xticks(steps, [f"{step:g}" for step in steps])
        ax.minorticks_off()
        figure.legend(loc="outside right upper", handlelength=3.2)
    return figure


@on_cpu
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
    with styled(1, len(panels), height=3.4, sharey=True) as (figure, axes):
        left = axes[0]
        for ax, (xlabel, curves) in zip(axes, panels.items(), strict=True):
            for i, (name, (costs, scores)) in enumerate(curves.items()):
                ax.plot(
                    costs,
                    scores,
                    color=COLOURS[i],
                    linestyle=DASHES[i],
                    marker=MARKERS[i],
                    markersize=4,
                    label=name if ax is left else None,
                )
            ax.set(xscale="log", yscale="log" if log else "linear", xlabel=xlabel)
            all_costs = sorted({cost for costs, _ in curves.values() for cost in costs})
            overlap = len(all_costs) > 8 or any(b < 1.15 * a for a, b in pairwise(all_costs))
            ticks = ROUND if overlap else all_costs
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.set_xlim(all_costs[0] / 1.1, all_costs[-1] * 1.1)
            ax.minorticks_off()
            if floor is not None:
                ax.axhline(floor, color=GREY, linewidth=1)
        if log:
            limits = left.get_ylim()
            left.set_yticks(ROUND, [str(tick) for tick in ROUND])
            left.set_ylim(limits)
        if floor is not None:
            words = left.text(0.02, floor, "real pictures", color=GREY, fontsize=8, va="bottom")
            words.set_transform(left.get_yaxis_transform())  # x: share of the width, y: a score
        left.set_ylabel(ylabel)
        figure.legend(loc="outside upper center", ncols=4, handlelength=3.2)
    return figure


@on_cpu
def plot_quality_time(
    rows: Mapping[str, Sequence[tuple[int, float, float]]], ylabel: str, floor: float | None = None
) -> Figure:
    """A score against the milliseconds that one picture takes, both logarithmic; each point says
    its steps.

    rows: name -> (steps, milliseconds, score) for each point; floor: the score of real pictures.
    """
    with styled(height=3.2) as (figure, (ax,)):
        for (name, points), colour, marker in zip(rows.items(), COLOURS, MARKERS, strict=False):
            times = [time for _, time, _ in points]
            scores = [score for _, _, score in points]
            ax.plot(times, scores, color=colour, marker=marker, markersize=5, label=name)
            for steps, time, score in points:
                ax.annotate(
                    str(steps),
                    (time, score),
                    xytext=(5, 4),
                    textcoords="offset points",
                    color=colour,
                )
        if floor is not None:
            ax.axhline(floor, color=GREY, linestyle=":", label="real pictures")
        ax.set(xscale="log", yscale="log", xlabel="milliseconds per picture", ylabel=ylabel)
        figure.legend(loc="outside upper center", ncols=3)
    return figure
