"""What a prompt does to a picture: where it looks for each word, and how hard guidance pulls.
Chapter 09."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import anywidget
import traitlets
from torch import Tensor

from minildm.plots.images import overlay
from minildm.widgets.page import MOST, as_address, script, style, within


class WordMaps(NamedTuple):
    """One prompt's drawing, step by step.

    words: W of them. pictures: (S, 3, H, W'), what each step expects to come. maps: (S, W, H, W'),
    the attention for each word. stops: S, what the slider says.
    """

    words: list[str]
    pictures: Tensor
    maps: Tensor
    stops: list[str]


class PromptWidget(anywidget.AnyWidget):
    """A widget whose reader may type a prompt where a kernel is there to answer: then, and only
    then, the page shows the field for it. `answer(prompt)` adds what was drawn; a ValueError of it
    is told to the reader."""

    answer: Callable[[str], None] | None = None

    def __init__(self, **traits: Any):
        super().__init__(**traits)
        self.on_msg(self._on_message)

    def _on_message(self, widget: object, message: dict, buffers: object) -> None:
        if self.answer is None:
            return
        if message.get("kind") == "hello":  # a page without a kernel is never answered
            self.send({"kind": "here"})
        elif message.get("kind") == "ask":
            try:
                self.answer(str(message.get("prompt", "")))
                self.send({"kind": "done", "text": ""})
            except ValueError as error:
                self.send({"kind": "done", "text": str(error)})


class WordAttentionViewer(PromptWidget):
    """A prompt whose words are buttons, and a slider over the steps: see `word_attention_viewer`.

    `choice`, `word` and `index` say which prompt, which of its words and which step; Python may set
    them too.
    """

    _esm = script("words.js")
    _css = style("prompts.css")
    prompts = traitlets.List(traitlets.Unicode()).tag(sync=True)
    words = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)  # of each prompt
    # PNGs as data: addresses, of each prompt and step
    pictures = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    # the same with a word's map laid over it: of each prompt, step and word
    overlays = traitlets.List(traitlets.List(traitlets.List(traitlets.Unicode()))).tag(sync=True)
    # how much of the attention that word has, in words
    shares = traitlets.List(traitlets.List(traitlets.List(traitlets.Unicode()))).tag(sync=True)
    stops = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    choice = traitlets.Int(0).tag(sync=True)
    word = traitlets.Int(0).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)

    _within, _kept = within(
        choice=lambda widget: (0, len(widget.prompts) - 1),
        word=lambda widget: (0, len(widget.words[widget.choice]) - 1),
        index=lambda widget: (0, len(widget.stops[widget.choice]) - 1),
    )

    def add(self, prompt: str, drawn: WordMaps) -> None:
        """Show one more prompt, and go to it."""
        shown = _view(prompt, drawn)
        with self.hold_sync():
            self.prompts = [*self.prompts, prompt]
            for name, value in shown.items():
                setattr(self, name, [*getattr(self, name), value])
            self.choice, self.word = len(self.prompts) - 1, 0
            self.index = len(drawn.stops) - 1


def word_attention_viewer(
    drawn: Mapping[str, WordMaps], draw: Callable[[str], WordMaps] | None = None
) -> WordAttentionViewer:
    """A widget in which the reader clicks a word of a prompt and sees where the picture looked for
    it, step by step.

    drawn: prompt -> its drawing. Each word's maps are shown on one scale over all steps, from their
    least (grey) to their most (orange). draw: makes the drawing of a prompt that the reader types,
    where there is a kernel.
    """
    if not drawn:
        raise ValueError("expected at least one prompt, got none")
    views = [_view(prompt, one) for prompt, one in drawn.items()]
    widget = WordAttentionViewer(
        prompts=list(drawn), **{name: [view[name] for view in views] for name in views[0]}, index=0
    )
    if draw is not None:
        widget.answer = lambda prompt: widget.add(prompt, draw(prompt))
    return widget


def _view(prompt: str, drawn: WordMaps) -> dict[str, list]:
    words, pictures, maps, stops = drawn
    steps_and_size = (*pictures.shape[:1], *pictures.shape[2:])
    if maps.ndim != 4 or pictures.ndim != 4 or (len(maps), *maps.shape[2:]) != steps_and_size:
        expected = "pictures (S, 3, H, W) and maps (S, words, H, W)"
        got = (tuple(pictures.shape), tuple(maps.shape))
        raise ValueError(f"{prompt!r}: expected {expected}, got {got}")
    if len(words) != maps.shape[1] or len(stops) != len(maps) or not words or not stops:
        got = f"{len(words)} words, {len(stops)} stops and maps {tuple(maps.shape)}"
        raise ValueError(f"{prompt!r}: expected maps (stops, words, H, W), got {got}")
    low = maps.amin((0, 2, 3), keepdim=True)
    high = maps.amax((0, 2, 3), keepdim=True)
    scaled = (maps - low) / (high - low).clamp(min=1e-12)
    numbers = [[(float(one.min()), float(one.max())) for one in step] for step in maps]
    return {
        "words": list(words),
        "stops": list(stops),
        "pictures": [as_address(picture[None]) for picture in pictures],
        "overlays": [
            [as_address(overlay(picture, one)[None]) for one in step]
            for picture, step in zip(pictures, scaled, strict=True)
        ],
        "shares": [
            [f"{a:.1%} to {b:.1%} of each place's attention" for a, b in step] for step in numbers
        ],
    }


class GuidanceSlider(PromptWidget):
    """The same noise drawn at many guidance scales, and what was measured of them: see
    `guidance_slider`.

    `choice` and `index` say which prompt and which scale is shown; Python may set them too.
    """

    _esm = script("guidance.js")
    _css = style("prompts.css")
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    # PNGs as data: addresses
    frames = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    scales = traitlets.List(traitlets.Float()).tag(sync=True)
    columns = traitlets.Int(1).tag(sync=True)
    curves = traitlets.Dict().tag(sync=True)  # name -> [scales, values]
    choice = traitlets.Int(0).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)

    _within, _kept = within(
        choice=lambda widget: (0, len(widget.names) - 1),
        index=lambda widget: (0, len(widget.scales) - 1),
        columns=lambda widget: (1, MOST),
    )

    def add(self, prompt: str, pictures: Sequence[Tensor]) -> None:
        """Show one more prompt, and go to it; pictures as for `guidance_slider`."""
        frames = _sheets(prompt, pictures, len(self.scales), self.columns)
        with self.hold_sync():
            self.names, self.frames = [*self.names, prompt], [*self.frames, frames]
            self.choice = len(self.names) - 1


def guidance_slider(
    pictures: Mapping[str, Sequence[Tensor]],
    scales: Sequence[float],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    draw: Callable[[str], Sequence[Tensor]] | None = None,
) -> GuidanceSlider:
    """A widget that turns up the guidance: pictures from the same noise, and beside them what was
    measured.

    pictures: prompt -> for each of the K scales N pictures (N, 1 or 3, h, w) in [-1, 1], N the same
        everywhere
    scales: K numbers, rising
    curves: name -> (scales, values), for example a measured accuracy, which need not be at the
        slider's scales
    draw: makes the K lots of pictures of a prompt that the reader types, where there is a kernel
    """
    scales = [float(scale) for scale in scales]
    if not pictures:
        raise ValueError("expected at least one prompt, got none")
    if not scales or scales != sorted(set(scales)) or not all(map(math.isfinite, scales)):
        raise ValueError(f"expected finite rising scales, got {scales}")
    lines = {
        name: [[float(value) for value in part] for part in curve] for name, curve in curves.items()
    }
    for name, (x, y) in lines.items():
        rising = len(x) == len(y) >= 2 and x == sorted(set(x))
        if not rising or not all(map(math.isfinite, [*x, *y])):
            expected = f"two or more rising scales and as many finite values for {name!r}"
            raise ValueError(f"expected {expected}, got {x}, {y}")
    count = len(next(iter(pictures.values()))[0])
    widget = GuidanceSlider(
        names=list(pictures),
        frames=[_sheets(prompt, lots, len(scales), count) for prompt, lots in pictures.items()],
        scales=scales,
        columns=count,
        curves=lines,
    )
    if draw is not None:
        widget.answer = lambda prompt: widget.add(prompt, draw(prompt))
    return widget


def _sheets(prompt: str, lots: Sequence[Tensor], scales: int, count: int) -> list[str]:
    if len(lots) != scales or any(len(lot) != count for lot in lots):
        got = [len(lot) for lot in lots]
        raise ValueError(
            f"{prompt!r}: expected {scales} lots of {count} pictures, one for each scale, got {got}"
        )
    return [as_address(lot, ncols=math.ceil(math.sqrt(count))) for lot in lots]
