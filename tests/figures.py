"""For the tests of figures: what a figure shows, and whether all of it lies within."""

import numpy as np


def shown(figure) -> np.ndarray:
    """The pixels of the one picture in a figure's first axes."""
    (image,) = figure.axes[0].get_images()
    return np.asarray(image.get_array())


def inside(figure) -> bool:
    """Whether everything drawn lies within the figure."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return (
        box.x0 >= -0.01 and box.y0 >= -0.01 and box.x1 <= width + 0.01 and box.y1 <= height + 0.01
    )
