"""A semantic map to paint, and the picture that it gives. Chapter 10."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import traitlets
from torch import Tensor

from minildm.data.maps import MAP_COLOURS
from minildm.widgets.page import MOST, as_address, script, style, within
from minildm.widgets.prompts import PromptWidget

# A map travels as text, a letter for the class of each pixel, row after row.
LETTERS = "0123456789abcdef"
NAMES = (*"0123456789", "ground")
PAINTED = "painted by you"


class MapStrip(NamedTuple):
    """K maps in a row, and what was drawn of each. maps: (K, S, S) of integers; pictures: (K, 1 or
    3, H, W) in [-1, 1]; captions: K texts."""

    maps: Tensor
    pictures: Tensor
    captions: Sequence[str]


class MapPainter(PromptWidget):
    """A map and its picture, a slider over prepared maps and, where there is a kernel, a brush: see
    `map_painter`.

    `choice` and `index` say which strip and which of its maps is shown; `painted` is the map under
    the brush.
    """

    _esm = script("painter.js")
    _css = style("painter.css")
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)  # of the strips
    maps = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    # PNGs as data: addresses
    frames = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    captions = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    classes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    colours = traitlets.List(traitlets.Unicode()).tag(sync=True)
    side = traitlets.Int(1).tag(sync=True)
    choice = traitlets.Int(0).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)
    painted = traitlets.Unicode().tag(sync=True)

    _within, _kept = within(
        side=lambda widget: (1, MOST),
        choice=lambda widget: (0, len(widget.names) - 1),
        index=lambda widget: (0, len(widget.maps[widget.choice]) - 1),
    )

    def add(self, strip: MapStrip, name: str = PAINTED) -> None:
        """Append a strip's maps to the strip `name`, which is made if it is not there, and go to
        the last of them."""
        maps, frames, captions = _travelling(name, strip, self.side, len(self.classes))
        where = self.names.index(name) if name in self.names else len(self.names)
        with self.hold_sync():
            if where == len(self.names):
                self.names = [*self.names, name]
            for trait, values in (("maps", maps), ("frames", frames), ("captions", captions)):
                rows = [list(row) for row in getattr(self, trait)] + [[]] * (
                    where == len(getattr(self, trait))
                )
                rows[where] = [*rows[where], *values]
                setattr(self, trait, rows)
            self.choice, self.index = where, len(self.maps[where]) - 1


def map_painter(
    strips: Mapping[str, MapStrip],
    draw: Callable[[Tensor, str], Tensor] | None = None,
    classes: Sequence[str] = NAMES,
    colours: Sequence[str] = MAP_COLOURS,
) -> MapPainter:
    """A widget with a map on the left and its picture on the right; a slider moves along the maps
    of a strip.

    strips: name -> its maps, pictures and captions, all maps of one size. classes, colours: name
    and "#rrggbb" of each class. draw: makes the picture (1 or 3, H, W) of a map (S, S) int64 that
    the reader has painted and a prompt that they have typed, "" perhaps, where there is a kernel;
    without one, brush and field stay hidden.
    """
    if not strips:
        raise ValueError("expected at least one strip of maps, got none")
    if not 1 < len(classes) == len(colours) <= len(LETTERS):
        got = f"{len(classes)} and {len(colours)}"
        raise ValueError(f"expected 2 to {len(LETTERS)} classes, a colour each, got {got}")
    side = next(iter(strips.values())).maps.shape[-1]
    rows = [_travelling(name, strip, side, len(classes)) for name, strip in strips.items()]
    maps, frames, captions = (list(column) for column in zip(*rows, strict=True))
    widget = MapPainter(names=list(strips), maps=maps, frames=frames, captions=captions, side=side)
    widget.classes = list(classes)
    widget.colours = list(colours)
    widget.painted = maps[0][0]
    if draw is None:
        return widget

    def answer(prompt: str) -> None:
        painted = from_text(widget.painted, side, len(classes))
        caption = f"“{prompt}”" if prompt else "no prompt, the map alone"
        widget.add(MapStrip(painted[None], draw(painted, prompt)[None], [caption]))

    widget.answer = answer
    return widget


def as_text(semantic_map: Tensor) -> str:
    """A map (S, S) of integers as a letter for each pixel."""
    return "".join(LETTERS[value] for value in semantic_map.flatten().tolist())


def from_text(text: str, side: int, classes: int) -> Tensor:
    """The way back, (side, side) int64; ValueError if it is no such map."""
    if len(text) != side * side or not set(text) <= set(LETTERS[:classes]):
        got = f"{len(text)} of {''.join(sorted(set(text)))!r}"
        raise ValueError(f"expected {side * side} letters of {LETTERS[:classes]!r}, got {got}")
    return torch.tensor([LETTERS.index(letter) for letter in text]).view(side, side)


def _travelling(
    name: str, strip: MapStrip, side: int, classes: int
) -> tuple[list[str], list[str], list[str]]:
    """Maps, pictures and captions of a strip as texts, after a check."""
    maps, pictures, captions = strip
    if maps.shape[1:] != (side, side) or maps.is_floating_point() or not len(maps):
        got = f"{tuple(maps.shape)} {maps.dtype}"
        raise ValueError(f"{name!r}: expected integer maps (K, {side}, {side}), got {got}")
    if not 0 <= int(maps.min()) <= int(maps.max()) < classes:
        raise ValueError(
            f"{name!r}: expected classes from 0 to {classes - 1}, got {maps.min()} to {maps.max()}"
        )
    if not len(maps) == len(pictures) == len(captions):
        got = f"{len(maps)}, {len(pictures)} and {len(captions)}"
        raise ValueError(f"{name!r}: expected as many maps as pictures and captions, got {got}")
    return (
        [as_text(one) for one in maps],
        [as_address(picture[None]) for picture in pictures],
        list(captions),
    )
