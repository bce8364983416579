"""The look that all figures share, and the frame in which each is drawn (colours: Okabe & Ito
2008). Chapter 00.

Every function of this package draws one figure and returns it: as the last line of a cell it is
shown, once. matplotlib is imported when a figure is drawn, not before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

PAGE_WIDTH = 7.2  # inches; at 120 dots per inch the width of the book's column
FONT_SIZE = 10  # points

# Seven colours that the colour-blind can tell apart. In a grey print two of them look alike, so
# each line has its own dashes as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (7, 3)))
LOOKS = tuple(zip(COLOURS, DASHES, strict=True))
MARKERS = "osD^vPX"
GREY = "#6B6B6B"  # for what explains the data, as against the data

STYLE: dict[RcKeyType, bool | float | str] = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "font.size": FONT_SIZE,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "xtick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.color": GREY,
    "ytick.labelcolor": "black",
}


@contextmanager
def styled(
    nrows: int = 1,
    ncols: int = 1,
    *,
    height: float,
    width: float = PAGE_WIDTH,
    sharex: bool = False,
    sharey: bool = False,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A new figure and its axes, row after row, to be drawn into in the course's style.

    Closed when that is done: what is drawn is shown where it is returned, and nowhere else.
    width, height: inches.
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            nrows, ncols, figsize=(width, height), sharex=sharex, sharey=sharey, squeeze=False
        )
        try:
            yield figure, list(axes.flat)
        finally:
            plt.close(figure)


def take_off_frame(ax: Axes) -> None:
    """Axes without lines around and across them, and without strokes at their numbers."""
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
