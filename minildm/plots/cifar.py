"""What is taken for what: tables of a classifier's answers. Chapter 17.

Like `minildm.plots`, whose style they share: every function draws one figure and returns it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from minildm.plots.images import PAGE_WIDTH, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_confusion(shares: Mapping[str, Tensor], classes: Sequence[str]) -> Figure:
    """Tables side by side: the darker a square, the more often its row is taken for its column;
    shares from 2 % on are written into it, in percent. shares: title -> (C, C) in [0, 1], every row
    of which sums to 1."""
    import matplotlib.pyplot as plt

    size = (len(classes), len(classes))
    if any(
        tuple(table.shape) != size or not table.sum(1).sub(1).abs().max() < 1e-4
        for table in shares.values()
    ):
        got = {title: tuple(table.shape) for title, table in shares.items()}
        raise ValueError(f"expected tables {size} whose rows sum to 1, got {got}")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(shares), figsize=(PAGE_WIDTH, PAGE_WIDTH / 2 + 0.6), squeeze=False
        )
        for ax, (title, table) in zip(axes[0], shares.items(), strict=True):
            ax.imshow(table, "Blues", vmin=0, vmax=1)
            for i, row in enumerate(table.tolist()):
                for j, share in enumerate(row):
                    if share >= 0.02:
                        colour = "white" if share > 0.5 else "black"
                        ax.text(
                            j,
                            i,
                            f"{100 * share:.0f}",
                            ha="center",
                            va="center",
                            fontsize=7,
                            color=colour,
                        )
            ax.set_title(title)
            ax.set_xticks(range(len(classes)), classes, rotation=90, fontsize=8)
            ax.set_yticks(
                range(len(classes)),
                classes if ax is axes[0, 0] else [""] * len(classes),
                fontsize=8,
            )
            ax.set_xlabel("taken for")
            ax.tick_params(length=0)
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
        axes[0, 0].set_ylabel("asked for, or shown")
    plt.close(figure)
    return figure
