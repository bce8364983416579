"""Figures of points in the plane, of fields over it, and of curves over noise levels. Chapter 03.

Like `minildm.plots`, whose style they share: every function draws one figure and returns it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minildm.plots.images import COLOURS, DASHES, GREY, PAGE_WIDTH, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_points(
    panels: Mapping[str, Tensor | tuple[Tensor, Tensor]], extent: float = 3.0
) -> Figure:
    """Points in the plane, a panel for each title; of two sets in a panel the first lies in grey
    beneath.

    panels: title -> (N, 2), or (beneath (M, 2), points (N, 2)). Each panel shows [-extent, extent]
        both ways.
    """
    figure, axes = _panels(list(panels), extent)
    for ax, points in zip(axes, panels.values(), strict=True):
        beneath, above = points if isinstance(points, tuple) else (None, points)
        if beneath is not None:
            ax.scatter(*beneath.T, s=1.5, color=GREY, alpha=0.5, linewidths=0)
        ax.scatter(*above.T, s=4, color=COLOURS[0], linewidths=0)
    return figure


def plot_fields(
    fields: Sequence[Tensor], titles: Sequence[str], extent: float, points: Tensor | None = None
) -> Figure:
    """Arrows over the plane, a panel for each field: all of one length, the darker the stronger.

    fields: each (G, G, 2) at y = linspace(-extent, extent, G)[i], x = linspace(-extent, extent,
        G)[j]; points: (N, 2).
    """
    figure, axes = _panels(titles, extent)
    for ax, field in zip(axes, fields, strict=True):
        places = torch.linspace(-extent, extent, len(field))
        if points is not None:
            ax.scatter(*points.T, s=1.5, color=COLOURS[1], alpha=0.5, linewidths=0)
        strength = field.norm(dim=-1)
        u, v = (field / strength.clamp(min=1e-12)[..., None]).unbind(-1)
        look = {
            "cmap": "Blues",
            "pivot": "mid",
            "angles": "xy",
            "scale": len(field) * 1.15,
            "width": 0.008,
        }
        ax.quiver(
            places,
            places,
            u,
            v,
            strength,
            clim=(-0.4 * float(strength.max()), float(strength.max())),
            **look,
        )
    return figure


def plot_levels(
    curves: Mapping[str, Tensor],
    log_snr: Tensor,
    ylabel: str,
    log: bool = True,
    ylim: tuple | None = None,
) -> Figure:
    """Curves over the noise levels: little noise on the left, much on the right.

    curves: name -> (L,), at most seven; log_snr: (L,).
    """
    import matplotlib.pyplot as plt

    if not 1 <= len(curves) <= len(COLOURS):
        raise ValueError(f"expected 1 to {len(COLOURS)} curves, got {len(curves)}")
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 3.0))
        for (name, values), colour, dashes in zip(curves.items(), COLOURS, DASHES, strict=False):
            ax.plot(log_snr, values, color=colour, linestyle=dashes, label=name)
        ax.set(xlabel="log SNR: clean on the left, noise on the right", ylabel=ylabel)
        ax.set(**({"yscale": "log"} if log else {}), **({"ylim": ylim} if ylim else {}))
        ax.invert_xaxis()
        figure.legend(loc="outside upper center", ncols=min(4, len(curves)), handlelength=3.2)
    plt.close(figure)
    return figure


def _panels(titles: Sequence[str], extent: float) -> tuple[Figure, Sequence[Axes]]:
    """Square axes without ticks side by side, one for each title."""
    import matplotlib.pyplot as plt

    if not titles:
        raise ValueError("expected at least one panel, got none")
    with plt.rc_context(STYLE):
        width = PAGE_WIDTH / max(3, len(titles))
        size = (width * len(titles), width + 0.3)
        figure, axes = plt.subplots(1, len(titles), figsize=size, squeeze=False)
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set(
                xlim=(-extent, extent), ylim=(-extent, extent), xticks=[], yticks=[], aspect="equal"
            )
            ax.set_title(title, fontsize=9)
            ax.spines[:].set_visible(False)
            ax.grid(False)
    plt.close(figure)
    return figure, axes[0]
