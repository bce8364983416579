"""Tables drawn as tiles, the darker the larger the number: attention maps, alarms, what is taken
for what. Chapters 08, 12 and 17."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from minildm.device import on_cpu
from minildm.plots.style import FONT_SIZE, PAGE_WIDTH, styled, take_off_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@on_cpu
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
    shape = (len(row_labels), len(column_labels))
    shapes = {title: tuple(matrix.shape) for title, matrix in matrices.items()}
    wrong = {title: got for title, got in shapes.items() if got != shape}
    if wrong:
        raise ValueError(
            f"expected matrices {shape}, one label for each row and column, got {wrong}"
        )
    if not matrices:
        raise ValueError("expected at least one matrix, got none")
    low, high = limits
    ncols = min(ncols, len(matrices))
    nrows = -(-len(matrices) // ncols)
    tile = min(0.42, (PAGE_WIDTH - 1.6) / ncols / shape[1])  # inches
    height = nrows * (tile * shape[0] + 0.3) + 0.9
    with styled(nrows, ncols, height=height, sharex=True, sharey=True) as (figure, axes):
        for ax, (title, matrix) in zip(axes, matrices.items(), strict=False):
            values = matrix.detach().float().cpu().numpy()
            ax.imshow(values, cmap="Blues", vmin=low, vmax=high)
            ax.grid(visible=False)
            ax.set_title(title, fontsize=9)
            ax.set_xticks(range(shape[1]), column_labels, rotation=90, fontsize=8)
            ax.set_yticks(range(shape[0]), row_labels, fontsize=8)
            for i, row in enumerate(values.tolist() if numbers else []):
                for j, value in enumerate(row):
                    colour = "w" if value > (low + 2 * high) / 3 else "k"
                    _write(ax, i, j, f"{value:.2f}", colour)
        for ax in axes[len(matrices) :]:
            ax.set_axis_off()
        if not all(((matrix == 0) | (matrix == 1)).all() for matrix in matrices.values()):
            # Yes and no need no scale.
            (image,) = axes[0].get_images()
            figure.colorbar(image, ax=axes, shrink=0.7, aspect=30, pad=0.02)
    return figure


@on_cpu
def plot_confusion(shares: Mapping[str, Tensor], classes: Sequence[str]) -> Figure:
    """Tables side by side: the darker a square, the more often its row is taken for its column;
    shares from 2 % on are written into it, in percent. shares: title -> (C, C) in [0, 1], every row
    of which sums to 1."""
    size = (len(classes), len(classes))
    for table in shares.values():
        if tuple(table.shape) != size or not table.sum(1).sub(1).abs().max() < 1e-4:
            got = {title: tuple(table.shape) for title, table in shares.items()}
            raise ValueError(f"expected tables {size} whose rows sum to 1, got {got}")
    places = range(len(classes))
    with styled(1, len(shares), height=PAGE_WIDTH / 2 + 0.6) as (figure, axes):
        for ax, (title, table) in zip(axes, shares.items(), strict=True):
            ax.imshow(table.numpy(), "Blues", vmin=0, vmax=1)
            for i, row in enumerate(table.tolist()):
                for j, share in enumerate(row):
                    if share >= 0.02:
                        colour = "white" if share > 0.5 else "black"
                        _write(ax, i, j, f"{100 * share:.0f}", colour)
            ax.set_title(title)
            ax.set_xticks(places, classes, rotation=90, fontsize=8)
            ax.set_yticks(places, [""] * len(classes), fontsize=8)
            ax.set_xlabel("taken for")
            take_off_frame(ax)
        axes[0].set_yticks(places, classes, fontsize=8)
        axes[0].set_ylabel("asked for, or shown")
    return figure


@on_cpu
def plot_table(
    rows: Mapping[str, Sequence[float]],
    columns: Sequence[str],
    alarms: Mapping[str, Sequence[bool]],
) -> Figure:
    """Numbers in a table, those that raise an alarm on a coloured ground. rows, alarms: name -> a
    value a column; nan where there is none."""
    lengths = {len(values) for values in (*rows.values(), *alarms.values())}
    if lengths - {len(columns)} or list(rows) != list(alarms):
        raise ValueError(
            f"expected {len(columns)} numbers and alarms in every row, got {rows} and {alarms}"
        )
    with styled(height=0.36 * len(rows) + 0.6) as (figure, (ax,)):
        marks = [[float(alarm) for alarm in row] for row in alarms.values()]
        ax.imshow(marks, "Oranges", vmin=0, vmax=2, aspect="auto")
        for i, values in enumerate(rows.values()):
            for j, value in enumerate(values):
                number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
                _write(ax, i, j, "–" if math.isnan(value) else number, size=FONT_SIZE)
        ax.set_xticks(range(len(columns)), columns)
        ax.set_yticks(range(len(rows)), list(rows))
        ax.xaxis.tick_top()
        take_off_frame(ax)
    return figure


def _write(
    ax: Axes, row: int, column: int, number: str, colour: str = "black", size: float = 7
) -> None:
    """A number in the middle of its tile."""
    ax.text(column, row, number, ha="center", va="center", fontsize=size, color=colour)
