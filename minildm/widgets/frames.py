"""One strip of pictures of several, and a slider along it. Chapters 00 and 02."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import anywidget
import traitlets

from minildm.plots.images import Images
from minildm.widgets.page import as_address, script, style, within


class FrameSlider(anywidget.AnyWidget):
    """Strips of pictures, a menu that chooses the strip and a slider that moves along it: see
    `frame_slider`.

    `choice` and `index` say what is shown; setting them from Python moves the widget too.
    """

    _esm = script("frames.js")
    _css = style("frames.css")
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    # PNGs as data: addresses
    frames = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    captions = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    curves = traitlets.List(traitlets.List(traitlets.Float())).tag(sync=True)
    choice = traitlets.Int(0).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)

    _within, _kept = within(
        choice=lambda widget: (0, len(widget.names) - 1),
        index=lambda widget: (0, len(widget.frames[0]) - 1),
    )


def frame_slider(
    frames: Mapping[str, Images],
    captions: Mapping[str, Sequence[str]],
    curves: Mapping[str, Sequence[float]] | None = None,
) -> FrameSlider:
    """A widget that moves along strips of pictures, all of the same length N.

    frames: name of the strip -> its N pictures, as for `plots.mosaic`, for example (N, 1, h, w) in
        [-1, 1]
    captions: name -> what stands beneath each picture
    curves: name -> N finite numbers, drawn as a line beside the pictures, with a dot at the one
        that is shown
    """
    if not frames:
        raise ValueError("expected at least one strip of frames, got none")
    count = len(next(iter(frames.values())))
    strips = {"frames": frames, "captions": captions} | ({"curves": curves} if curves else {})
    for what, strip in strips.items():
        if list(strip) != list(frames):
            got = ", ".join(strip) or "none"
            raise ValueError(f"expected {what} for {', '.join(frames)}, got them for {got}")
        for name, values in strip.items():
            if len(values) != count or count == 0:
                raise ValueError(f"expected {max(count, 1)} {what} for {name!r}, got {len(values)}")
    lines = [[float(value) for value in curve] for curve in (curves or {}).values()]
    if not all(map(math.isfinite, sum(lines, []))):
        raise ValueError("expected finite curves, got one with infinity or NaN")
    return FrameSlider(
        names=list(frames),
        frames=[[as_address(strip[i : i + 1]) for i in range(count)] for strip in frames.values()],
        captions=[list(captions[name]) for name in frames],
        curves=lines,
    )
