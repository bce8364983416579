"""All that decides a drawing, to play with: prompt, what to steer away from, guidance, steps, seed.
Chapter 11."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import traitlets
from torch import Tensor

from minildm.widgets.page import as_address, script, style
from minildm.widgets.prompts import PromptWidget

Draw = Callable[[list[str], str, float, int, int], Tensor]
SETTINGS = ("prompt", "negative", "guidance", "steps", "seed")


class PromptPlayground(PromptWidget):
    """Menus and sliders over drawings that are there, and fields for a prompt of one's own: see
    `prompt_playground`.

    `place` holds five numbers: which prompt, negative prompt, guidance, steps and seed are shown.
    """

    _esm = script("playground.js")
    _css = style("playground.css")
    options = traitlets.List(traitlets.List()).tag(sync=True)  # of each of SETTINGS, its values
    # of each prompt: all settings in one PNG, a row a seed
    sheets = traitlets.List(traitlets.Unicode()).tag(sync=True)
    place = traitlets.List(traitlets.Int(), [0] * len(SETTINGS)).tag(sync=True)
    away = traitlets.Unicode("").tag(sync=True)  # the reader's own negative prompt
    # [prompt, negative, guidance, steps, seed, picture]: drawn last by a kernel
    own = traitlets.List().tag(sync=True)

    @traitlets.validate("place")
    def _within(self, proposal: traitlets.Bunch) -> list[int]:
        counts = [len(values) for values in self.options]
        place = proposal["value"]
        fits = len(place) == len(counts)
        if not fits or not all(0 <= i < n for i, n in zip(place, counts, strict=True)):
            raise ValueError(f"expected a place below {counts}, got {place}")
        return place

    @traitlets.observe("options")
    def _kept(self, change: traitlets.Bunch) -> None:
        last = [max(len(values) - 1, 0) for values in self.options]
        if len(self.place) == len(last):
            self.place = [min(i, n) for i, n in zip(self.place, last, strict=True)]


def prompt_playground(
    draw: Draw,
    prompts: Sequence[str],
    negatives: Sequence[str] = ("",),
    guidances: Sequence[float] = (1.0, 2.0, 4.0),
    steps: Sequence[int] = (2, 5, 10),
    seeds: Sequence[int] = (0, 1, 2),
) -> PromptPlayground:
    """A widget in which the reader turns everything that decides a drawing.

    draw(prompts, negative, guidance, steps, seed): a picture for each prompt, (N, 1 or 3, h, w) in
    [-1, 1], all from the seed's noise. It is asked at once for every combination, which travel with
    the widget, so that a page without a kernel moves too; where there is a kernel the reader may
    type prompts, and it is asked for those.
    """
    prompts, negatives = list(prompts), list(negatives)
    guidances, steps, seeds = list(guidances), list(steps), list(seeds)
    options = [prompts, negatives, guidances, steps, seeds]
    for name, values in zip(SETTINGS, options, strict=True):
        if not values or len(set(values)) != len(values):
            raise ValueError(f"expected one or more values of {name}, each once, got {values}")
    settings = product(negatives, guidances, steps, seeds)  # the seed changes fastest
    drawn = [draw(prompts, negative, scale, n, seed) for negative, scale, n, seed in settings]
    counts = [len(pictures) for pictures in drawn]
    if any(count != len(prompts) for count in counts):
        raise ValueError(f"expected {len(prompts)} pictures of draw, got {counts}")
    sheets = [
        as_address([pictures[i] for pictures in drawn], ncols=len(seeds), gap=0)
        for i in range(len(prompts))
    ]
    widget = PromptPlayground(options=options, sheets=sheets)

    def answer(prompt: str) -> None:
        if not prompt.strip():
            raise ValueError("expected a prompt, got nothing")
        _, _, i, j, k = widget.place
        guidance, n, seed = guidances[i], steps[j], seeds[k]
        picture = draw([prompt], widget.away, guidance, n, seed)
        widget.own = [prompt, widget.away, guidance, n, seed, as_address(picture)]

    widget.answer = answer
    return widget
