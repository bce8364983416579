"""Figures of latents: pictures at the places where they lie. Chapter 06."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from minildm.plots.images import PAGE_WIDTH, STYLE
from minildm.plots.images import mosaic as as_pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_map(
    images: Tensor, places: Tensor, xlabel: str = "", ylabel: str = "", zoom: float = 0.5
) -> Figure:
    """Each picture at its place in the plane. images: (N, 1 or 3, h, w) in [-1, 1]; places: (N, 2).

    Black is left transparent in pictures of one channel, so that neighbours do not hide each other.
    """
    import matplotlib.pyplot as plt
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    if places.shape != (len(images), 2):
        raise ValueError(
            f"expected a place (x, y) for each of {len(images)} images, got {tuple(places.shape)}"
        )
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(PAGE_WIDTH, 4.6))
        for image, (x, y) in zip(images, places.tolist(), strict=True):
            pixels = as_pixels(image[None])
            look = {"cmap": "Greys", "clim": (0, 255)} if pixels.ndim == 2 else {}
            box = OffsetImage(pixels, zoom=zoom, **{k: v for k, v in look.items() if k == "cmap"})
            if pixels.ndim == 2:
                box.image.set_clim(0, 255)
                box.image.set_alpha(pixels / 255.0)
            ax.add_artist(AnnotationBbox(box, (x, y), frameon=False, pad=0))
        low, high = places.amin(0), places.amax(0)
        margin = 0.05 * (high - low)
        ax.set(
            xlim=(float(low[0] - margin[0]), float(high[0] + margin[0])),
            xlabel=xlabel,
            ylabel=ylabel,
        )
        ax.set_ylim(float(low[1] - margin[1]), float(high[1] + margin[1]))
    plt.close(figure)
    return figure
