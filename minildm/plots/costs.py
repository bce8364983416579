"""Figures of what networks cost. Chapter 07."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from minildm.plots.images import COLOURS, PAGE_WIDTH, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_costs(panels: Mapping[str, Mapping[str, float]]) -> Figure:
    """Bars on a logarithmic axis, a panel for each kind of cost (its label), each bar with its
    number beside it.

    panels: label of the axis, with the unit -> name -> cost, positive; the names are the same in
        all panels.
    """
    import matplotlib.pyplot as plt

    names = list(next(iter(panels.values()), {}))
    if not names or any(
        list(costs) != names or min(costs.values()) <= 0 for costs in panels.values()
    ):
        raise ValueError(
            f"expected positive costs of the same names in each panel, got {dict(panels)}"
        )
    with plt.rc_context(STYLE):
        size = (PAGE_WIDTH, 0.9 + 0.35 * len(names))
        figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
        for ax, (xlabel, costs) in zip(axes[0], panels.items(), strict=True):
            low, high = min(costs.values()) / 3, max(costs.values())
            for row, value in enumerate(costs.values()):
                ax.barh(row, value - low, left=low, color=COLOURS[row % len(COLOURS)], height=0.6)
                ax.text(
                    value,
                    row,
                    f" {value:,.3g}" if value < 1000 else f" {value:,.0f}",
                    va="center",
                    fontsize=8,
                )
            ax.set(
                xscale="log", xlabel=xlabel, xlim=(low, high * (high / low) ** 0.35)
            )  # room for the numbers
            ax.grid(axis="y", visible=False)
            ax.set_axisbelow(True)
            ax.minorticks_off()
        axes[0, 0].set_yticks(range(len(names)), names)
        axes[0, 0].invert_yaxis()
    plt.close(figure)
    return figure
