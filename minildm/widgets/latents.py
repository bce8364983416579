"""A plane cut through the latent space, and the picture under the reader's finger. Chapter 06."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import anywidget
import torch
import traitlets
from torch import Tensor

from minildm.widgets.page import EXTENTS, MOST, as_address, as_bytes, script, style, within


class LatentExplorer(anywidget.AnyWidget):
    """A map of latents with a point to drag, and beside it what the decoder draws there: see
    `latent_explorer`.

    `x` and `y` say where the point is; setting them from Python moves it too.
    """

    _esm = script("latents.js")
    _css = style("latents.css")
    # all pictures of the grid in one PNG, a data: address
    sheet = traitlets.Unicode().tag(sync=True)
    grid = traitlets.Int(2).tag(sync=True)
    extent = traitlets.Float(1.0).tag(sync=True)
    points = traitlets.Bytes(b"").tag(sync=True)  # (N, 2), float32
    labels = traitlets.List(traitlets.Int()).tag(sync=True)  # of the points
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)  # of the labels
    # [x, y, picture]: the point itself, where a kernel draws it
    exact = traitlets.List().tag(sync=True)
    x = traitlets.Float(0.0).tag(sync=True)
    y = traitlets.Float(0.0).tag(sync=True)

    decode: Callable[[Tensor], Tensor] | None = None

    _within, _kept = within(
        extent=lambda widget: EXTENTS,
        grid=lambda widget: (2, MOST),
        x=lambda widget: (-widget.extent, widget.extent),
        y=lambda widget: (-widget.extent, widget.extent),
    )

    @traitlets.observe("x", "y")
    def _draw_place(self, change: object) -> None:
        place = [self.x, self.y]
        # x and y come together: once is enough
        if self.decode is not None and place != self.exact[:2]:
            self.exact = [*place, as_address(self.decode(torch.tensor([place])))]


def latent_explorer(
    decode: Callable[[Tensor], Tensor],
    points: Tensor,
    labels: Sequence[int],
    names: Sequence[str],
    grid: int = 17,
    extent: float | None = None,
) -> LatentExplorer:
    """A widget in which the reader drags a point through a plane and sees what is decoded there.

    decode: points of the plane (N, 2) -> their pictures (N, 1 or 3, h, w) in [-1, 1]. It is asked
    at once for a grid of `grid` × `grid` points, which travel with the widget and are what a page
    without a kernel shows, the nearest one; a kernel then draws the very point. points: (N, 2),
    latents known, drawn as dots in the colour of their label, a number into `names`. extent: the
    plane is shown from -extent to extent, by default wide enough for all points.
    """
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not points.isfinite().all():
        raise ValueError(f"expected finite points (N, 2), got {tuple(points.shape)}")
    labels = [int(label) for label in labels]
    if len(labels) != len(points) or not all(0 <= label < len(names) for label in labels):
        expected = f"{len(points)} labels from 0 to {len(names) - 1}"
        raise ValueError(f"expected {expected}, got {len(labels)}: {labels[:5]} …")
    extent = 1.05 * float(points.abs().max()) if extent is None else float(extent)
    if not (math.isfinite(extent) and extent > 0) or grid < 2:
        raise ValueError(
            f"expected a finite extent above 0 and a grid of 2 or more, got {extent} and {grid}"
        )
    axis = torch.linspace(-extent, extent, grid)
    # row by row from the top, as one reads
    y, x = torch.meshgrid(axis.flip(0), axis, indexing="ij")
    pictures = decode(torch.stack([x.flatten(), y.flatten()], dim=1))
    if pictures.ndim != 4 or len(pictures) != grid * grid:
        raise ValueError(
            f"expected decode to give ({grid * grid}, 1 or 3, h, w), got {tuple(pictures.shape)}"
        )
    widget = LatentExplorer(
        sheet=as_address(pictures, ncols=grid, gap=0),
        grid=grid,
        extent=extent,
        points=as_bytes(points),
        labels=labels,
        names=list(names),
    )
    widget.decode = decode
    return widget
