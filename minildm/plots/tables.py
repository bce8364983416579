"""Figures of what a text encoder does: tables of numbers drawn as tiles, such as attention maps.
Chapter 08."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from minildm.plots.images import PAGE_WIDTH, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_matrices(
    matrices: Mapping[str, Tensor],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    limits: tuple[float, float] = (0.0, 1.0),
    ncols: int = 4,
    numbers: bool = False,
) -> Figure:
    """Tables side by side, a tile for each number, the darker the larger; all on the one scale of
    `limits`.

    matrices: title -> (rows, columns). numbers: print each on its tile, with two decimals.
    """
    import matplotlib.pyplot as plt

    shape = (len(row_labels), len(column_labels))
    if wrong := {
        name: tuple(matrix.shape)
        for name, matrix in matrices.items()
        if tuple(matrix.shape) != shape
    }:
        raise ValueError(
            f"expected matrices {shape}, one label for each row and column, got {wrong}"
        )
    if not matrices:
        raise ValueError("expected at least one matrix, got none")
    ncols = min(ncols, len(matrices))
    nrows = -(-len(matrices) // ncols)
    tile = min(0.42, (PAGE_WIDTH - 1.6) / ncols / shape[1])  # inches
    size = (PAGE_WIDTH, nrows * (tile * shape[0] + 0.3) + 0.9)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(
            nrows, ncols, figsize=size, sharex=True, sharey=True, squeeze=False
        )
        for ax in axes.flat[len(matrices) :]:
            ax.set_axis_off()
        for ax, (name, matrix) in zip(axes.flat, matrices.items(), strict=False):
            values = matrix.detach().float().cpu().numpy()
            image = ax.imshow(values, cmap="Blues", vmin=limits[0], vmax=limits[1])
            ax.set_title(name, fontsize=9)
            ax.set_xticks(range(shape[1]), column_labels, rotation=90, fontsize=8)
            ax.set_yticks(range(shape[0]), row_labels, fontsize=8)
            for (row, column), value in [] if not numbers else _entries(values):
                dark = value > (limits[0] + 2 * limits[1]) / 3
                ax.text(
                    column,
                    row,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="w" if dark else "k",
                )
        if any(
            ((matrix != 0) & (matrix != 1)).any() for matrix in matrices.values()
        ):  # yes and no need no scale
            figure.colorbar(image, ax=axes, shrink=0.7, aspect=30, pad=0.02)
    plt.close(figure)
    return figure


def _entries(values: np.ndarray) -> list[tuple[tuple[int, int], float]]:
    return [((i, j), float(value)) for i, row in enumerate(values) for j, value in enumerate(row)]
