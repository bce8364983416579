"""Figures about two networks that play against each other: the paths of a game, scores over the
time of training. Chapter 13.

Like `minildm.plots`, whose style they share: every function draws one figure and returns it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from minildm.plots.images import COLOURS, DASHES, GREY, PAGE_WIDTH, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_games(games: Mapping[str, Tensor], xlabel: str, ylabel: str) -> Figure:
    """The path of two numbers that change together, a panel for each name; it begins at the dot.
    name -> (steps, 2)."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(games), figsize=(PAGE_WIDTH, 2.9), sharex=True, sharey=True, squeeze=False
        )
        for ax, (name, path) in zip(axes[0], games.items(), strict=True):
            ax.axhline(0, color=GREY, linewidth=0.8, zorder=1)
            ax.axvline(0, color=GREY, linewidth=0.8, zorder=1)
            ax.plot(*path.T, color=COLOURS[0], linewidth=1)
            ax.plot(*path[0], "o", color=COLOURS[1], markersize=6)
            ax.set(title=name, xlabel=xlabel, aspect="equal")
        axes[0, 0].set_ylabel(ylabel)
    plt.close(figure)
    return figure


def plot_progress(
    runs: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]],
    xlabel: str,
    ylabel: str,
    floor: float | None = None,
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """Scores while training goes on, a line a seed, logarithmic; the best of each line is a dot.

    runs: name -> of each seed (times, scores); floor: the score of real pictures; marks: name -> a
    score to compare with, as a line across.
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 3.3))
        for i, (name, lines) in enumerate(runs.items()):
            for j, (times, scores) in enumerate(lines):
                label = name if j == 0 else None
                ax.plot(
                    times, scores, color=COLOURS[i], linestyle=DASHES[i], linewidth=1.2, label=label
                )
                best = min(range(len(scores)), key=lambda k, scores=scores: scores[k])
                ax.plot(times[best], scores[best], "o", color=COLOURS[i], markersize=5)
        for i, (name, score) in enumerate((marks or {}).items(), start=len(runs)):
            ax.axhline(score, color=COLOURS[i], linestyle=DASHES[i], linewidth=1.2, label=name)
        if floor is not None:
            ax.axhline(floor, color=GREY, linewidth=1, zorder=1, label="real digits")
        ax.set(xlabel=xlabel, ylabel=ylabel, yscale="log")
        figure.legend(loc="outside right upper", handlelength=3.2)
    plt.close(figure)
    return figure
