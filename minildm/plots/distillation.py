"""Figures of few-step drawing: paths and where they end, quality against time. Chapter 14.

Like `minildm.plots`, whose style they share: every function draws one figure and returns it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from minildm.plots.images import COLOURS, GREY, PAGE_WIDTH, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "osD^vPX"


def plot_ends(timesteps: Tensor, panels: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """Paths of single numbers from noise, on the left, to data, and what is said of each point of
    them: where its path ends. A panel for each title, a line for each path: flat where every point
        names the same end.

    timesteps: (S,), falling; panels: title -> (paths (S, N), said (S, N)).
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(PAGE_WIDTH, 3.0), sharey=True, squeeze=False
        )
        for ax, (title, (paths, said)) in zip(axes[0], panels.items(), strict=True):
            ax.plot(timesteps, paths, color=GREY, linewidth=0.6, alpha=0.5)
            ax.plot(timesteps, said, color=COLOURS[0], linewidth=0.9)
            ax.set(title=title, xlabel="timestep: noise on the left, data on the right")
            ax.invert_xaxis()
        axes[0, 0].set_ylabel("x (grey) and its end (blue)")
    plt.close(figure)
    return figure


def plot_quality_time(
    rows: Mapping[str, Sequence[tuple[int, float, float]]], ylabel: str, floor: float | None = None
) -> Figure:
    """A score against the milliseconds that one picture takes, both logarithmic; each point says
    its steps.

    rows: name -> (steps, milliseconds, score) for each point; floor: the score of real pictures.
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 3.2))
        for (name, points), colour, marker in zip(rows.items(), COLOURS, MARKERS, strict=False):
            steps, times, scores = zip(*points, strict=True)
            ax.plot(times, scores, color=colour, marker=marker, markersize=5, label=name)
            for step, time, score in zip(steps, times, scores, strict=True):
                ax.annotate(
                    str(step),
                    (time, score),
                    xytext=(5, 4),
                    textcoords="offset points",
                    color=colour,
                )
        if floor is not None:
            ax.axhline(floor, color=GREY, linestyle=":", label="real pictures")
        ax.set(xscale="log", yscale="log", xlabel="milliseconds per picture", ylabel=ylabel)
        figure.legend(loc="outside upper center", ncols=3)
    plt.close(figure)
    return figure
