"""A field of steps in the plane, and particles that follow it from noise to data. Chapter 03."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import anywidget
import traitlets
from torch import Tensor

from minildm.widgets.page import as_bytes, script, style


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

    @traitlets.validate("choice", "index")
    def _within(self, proposal) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        last = len(self.names) - 1 if name == "choice" else len(self.labels)
        if not 0 <= value <= last:
            raise ValueError(f"expected {name} in 0 … {last}, got {value}")
        return value


def field_explorer(
    fields: Mapping[str, Tensor], extent: float, labels: Sequence[str], points: Tensor | None = None
) -> FieldExplorer:
    """A widget of arrows in the plane, one field for each of T noise levels; a click drops
    particles that follow them.

    fields: name -> (T, G, G, 2), G ≥ 2: fields[name][t, i, j] is what is added to the point (x, y)
    to go from level t to level t + 1, at y = linspace(-extent, extent, G)[i] and x =
    linspace(-extent, extent, G)[j]; bilinear between, beyond the grid as at its edge. labels: T,
    what stands beside the slider, for example "noise 0.75".
    points: (N, 2), the data, drawn as dots. An arrow's length goes with the root of its step's, the
    longest one of a level filling its cell.
    """
    if not fields:
        raise ValueError("expected at least one field, got none")
    if not (math.isfinite(extent) and extent > 0):
        raise ValueError(f"expected a finite extent above 0, got {extent}")
    shape = next(iter(fields.values())).shape
    for name, field in fields.items():
        if (
            field.ndim != 4
            or field.shape[0] < 1
            or field.shape[1] != field.shape[2]
            or field.shape[1] < 2
        ):
            raise ValueError(
                f"expected fields (T, G, G, 2) with G of 2 or more, got {tuple(field.shape)} for {name!r}"
            )
        if field.shape != shape or field.shape[3] != 2:
            raise ValueError(
                f"expected fields of shape {(*shape[:3], 2)}, got {tuple(field.shape)} for {name!r}"
            )
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
