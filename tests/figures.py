"""For the tests of figures: what a figure shows, and whether all of it lies within."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Kind = TypeVar("Kind")


def x_of(line: Line2D) -> np.ndarray:
    """How far to the right the points of a line lie."""
    return np.asarray(line.get_xdata())


def y_of(line: Line2D) -> np.ndarray:
    """How far up the points of a line lie."""
    return np.asarray(line.get_ydata())


def every(kind: type[Kind], artists: Iterable[object]) -> list[Kind]:
    """What is drawn, all of one kind."""
    drawn = list(artists)
    chosen = [artist for artist in drawn if isinstance(artist, kind)]
    assert len(chosen) == len(drawn)
    return chosen


def shown(figure: Figure) -> np.ndarray:
    """The pixels of the one picture in a figure's first axes."""
    (image,) = figure.axes[0].get_images()
    return np.asarray(image.get_array())


def inside(figure: Figure) -> bool:
    """Whether everything drawn lies within the figure."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return (
        box.x0 >= -0.01 and box.y0 >= -0.01 and box.x1 <= width + 0.01 and box.y1 <= height + 0.01
    )
