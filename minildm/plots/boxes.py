"""Boxes and arrows on a page whose units are inches, for diagrams. Chapter 00."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from minildm.plots.style import styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[float, float]

WIDTH = 6.2  # inches: on a telephone a figure is as wide as the screen, and is to be read there


class Box(NamedTuple):
    """A rectangle on the page, in inches, given by its middle; arrows hold on to its sides."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> Point:
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> Point:
        return self.x + self.width / 2, self.y

    @property
    def top(self) -> Point:
        return self.x, self.y + self.height / 2

    @property
    def bottom(self) -> Point:
        return self.x, self.y - self.height / 2


@contextmanager
def page(height: float) -> Iterator[tuple[Figure, Axes]]:
    """Axes that are the page, whose units are inches."""
    with styled(height=height, width=WIDTH) as (figure, (ax,)):
        ax.axis("off")
        ax.set(xlim=(0, WIDTH), ylim=(0, height), aspect="equal")
        yield figure, ax


def draw_box(ax: Axes, box: Box, text: str, colour: str) -> Box:
    """A rectangle with words in it; returns it."""
    from matplotlib.patches import FancyBboxPatch

    corner = (box.x - box.width / 2, box.y - box.height / 2)
    shape = "round,pad=0,rounding_size=0.06"
    ax.add_patch(
        FancyBboxPatch(
            corner, box.width, box.height, shape, facecolor=f"{colour}1A", edgecolor=colour
        )
    )
    ax.text(box.x, box.y, text, ha="center", va="center", fontsize=9, linespacing=1.3)
    return box


def draw_arrow(
    ax: Axes, *points: Point, text: str = "", colour: str = "black", dashed: bool = False
) -> None:
    """An arrow through the points, with words beside its first piece."""
    look = {"color": colour, "linewidth": 1.1, "linestyle": "--" if dashed else "-"}
    for start, end in pairwise(points[:-1]):
        ax.plot(*zip(start, end, strict=True), solid_capstyle="round", **look)
    arrow = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, **look}
    ax.annotate("", points[-1], points[-2], arrowprops=arrow)
    (x0, y0), (x1, y1) = points[:2]
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    if y0 == y1:
        ax.text(x, y + 0.05, text, ha="center", va="bottom", fontsize=8.5, color=colour)
    else:
        ax.text(x + 0.06, y, text, ha="left", va="center", fontsize=8.5, color=colour)
