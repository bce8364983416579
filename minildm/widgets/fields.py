"""A field of steps in the plane, and particles that follow it from noise to data. Chapter 03."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import anywidget
import traitlets
from torch import Tensor

from minildm.widgets.page import EXTENTS, MOST, as_bytes, script, style, within


class FieldExplorer(anywidget.AnyWidget):
    """Arrows that a slider leads through the noise levels, and particles dropped among them: see
    `field_explorer`.

    `choice` and `index` say which field and which level is shown, `index` = T after the last step;
    setting them from Python moves the widget too.
    """

    _esm = script("fields.js")
    _css = style("fields.css")
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    fields = traitlets.Bytes().tag(sync=True)  # (names, T, grid, grid, 2), float32
    points = traitlets.Bytes(b"").tag(sync=True)  # (N, 2), float32
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    extent = traitlets.Float(1.0).tag(sync=True)
    grid = traitlets.Int(2).tag(sync=True)
    choice = traitlets.Int(0).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)

    _within, _kept = within(
        extent=lambda widget: EXTENTS,
        grid=lambda widget: (2, MOST),
        choice=lambda widget: (0, len(widget.names) - 1),
        index=lambda widget: (0, len(widget.labels)),
    )


def field_explorer(
    fields: Mapping[str, Tensor], extent: float, labels: Sequence[str], points: Tensor | None = None
) -> FieldExplorer:
    """A widget of arrows in the plane, one field for each of T noise levels; a click drops
    particles that follow them.

    fields: name -> (T, G, G, 2), G ≥ 2: fields[name][t, i, j] is what is added to the point (x, y)
        to go from level t to level t + 1, at y = linspace(-extent, extent, G)[i] and
        x = linspace(-extent, extent, G)[j]; bilinear between, beyond the grid as at its edge
    labels: T, what stands beside the slider, for example "noise 0.75"
    points: (N, 2), the data, drawn as dots

    An arrow's length goes with the root of its step's, the longest one of a level filling its cell.
    """
    if not fields:
        raise ValueError("expected at least one field, got none")
    if not (math.isfinite(extent) and extent > 0):
        raise ValueError(f"expected a finite extent above 0, got {extent}")
    shape = next(iter(fields.values())).shape
    for name, field in fields.items():
        got = f"{tuple(field.shape)} for {name!r}"
        square = field.ndim == 4 and field.shape[1] == field.shape[2] >= 2
        if not square or field.shape[0] < 1:
            raise ValueError(f"expected fields (T, G, G, 2) with G of 2 or more, got {got}")
        if field.shape != shape or field.shape[3] != 2:
            raise ValueError(f"expected fields of shape {(*shape[:3], 2)}, got {got}")
        if not field.isfinite().all():
            raise ValueError(f"expected finite fields, got infinity or NaN in {name!r}")
    if len(labels) != shape[0]:
        raise ValueError(f"expected {shape[0]} labels, one for each level, got {len(labels)}")
    if points is not None and (
        points.ndim != 2 or points.shape[1] != 2 or not points.isfinite().all()
    ):
        raise ValueError(f"expected finite points (N, 2), got {tuple(points.shape)}")
    return FieldExplorer(
        names=list(fields),
        fields=b"".join(map(as_bytes, fields.values())),
        points=b"" if points is None else as_bytes(points),
        labels=list(labels),
        extent=float(extent),
        grid=shape[1],
    )
