"""Several films at once under one slider: a sampling run, and samplers in a race. Chapter 05."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import anywidget
import traitlets
from torch import Tensor

from minildm.plots.images import Images
from minildm.widgets.page import MOST, as_address, script, style, within


class Films(anywidget.AnyWidget):
    """Films of one length and a slider that moves all of them: see `trajectory_scrubber` and
    `sampler_race`.

    `index` says where they stand; setting it from Python moves the widget too.
    """

    _esm = script("films.js")
    _css = style("films.css")
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    # PNGs as data: addresses
    frames = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    captions = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)  # of each frame
    stops = traitlets.List(traitlets.Unicode()).tag(sync=True)  # what the slider says
    what = traitlets.Unicode().tag(sync=True)  # what it moves over, for those who hear it
    columns = traitlets.Int(1).tag(sync=True)  # pictures side by side in one frame
    arrangement = traitlets.Enum(["rows", "beside"], "rows").tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)

    _within, _kept = within(
        index=lambda widget: (0, len(widget.stops) - 1), columns=lambda widget: (1, MOST)
    )


def trajectory_scrubber(xts: Tensor, x0s: Tensor, captions: Sequence[str]) -> Films:
    """A widget that moves along one sampling run: x_t, and beside it the x_0 that the network
    expects at that step.

    xts, x0s: (T, N, 1 or 3, h, w), T steps of N pictures in [-1, 1], shown clipped to it
    captions: T, what stands beside the slider, for example "step 3, t = 812"
    """
    for name, pictures in (("xts", xts), ("x0s", x0s)):
        if pictures.ndim != 5 or pictures.shape[2] not in (1, 3) or 0 in pictures.shape:
            raise ValueError(f"expected {name} (T, N, 1 or 3, h, w), got {tuple(pictures.shape)}")
    if xts.shape != x0s.shape:
        raise ValueError(
            f"expected xts and x0s of one shape, got {tuple(xts.shape)} and {tuple(x0s.shape)}"
        )
    if len(captions) != len(xts):
        raise ValueError(f"expected {len(xts)} captions, one for each step, got {len(captions)}")
    return Films(
        names=["xt, the picture so far", "x0, as the network expects it"],
        frames=[[as_address(pictures) for pictures in run] for run in (xts, x0s)],
        captions=[[""] * len(xts)] * 2,
        stops=list(captions),
        what="step of the sampler",
        columns=math.ceil(math.sqrt(xts.shape[1])),
        arrangement="beside",
    )


def sampler_race(
    pictures: Mapping[str, Sequence[Images]],
    steps: Sequence[int],
    captions: Mapping[str, Sequence[str]] | None = None,
) -> Films:
    """A widget with a row for each sampler and one slider: what each of them has after so many
    network evaluations.

    pictures: name of the sampler -> for each of the K entries of `steps` its N pictures, as for
        `plots.mosaic`, for example (N, 1, h, w) in [-1, 1]; N is the same everywhere
    steps: K numbers of evaluations, rising
    captions: name -> K texts beside the row, for example a score
    """
    if not pictures:
        raise ValueError("expected at least one sampler, got none")
    if not steps or min(steps) < 1 or list(steps) != sorted(set(steps)):
        raise ValueError(f"expected rising numbers of evaluations of 1 or more, got {list(steps)}")
    if captions is not None and list(captions) != list(pictures):
        got = ", ".join(captions) or "none"
        raise ValueError(f"expected captions for {', '.join(pictures)}, got them for {got}")
    for what, rows in (("lots of pictures", pictures), ("captions", captions or {})):
        for name, row in rows.items():
            if len(row) != len(steps):
                expected = f"{len(steps)} {what} for {name!r}, one for each of steps"
                raise ValueError(f"expected {expected}, got {len(row)}")
    counts = sorted({len(images) for row in pictures.values() for images in row})
    if len(counts) != 1:
        raise ValueError(f"expected the same number of pictures everywhere, got {counts}")
    return Films(
        names=list(pictures),
        frames=[
            [as_address(images, ncols=len(images)) for images in row] for row in pictures.values()
        ],
        captions=[list(captions[name]) if captions else [""] * len(steps) for name in pictures],
        stops=[f"{n} network evaluation{'s' if n > 1 else ''}" for n in steps],
        what="network evaluations",
        columns=counts[0],
    )
