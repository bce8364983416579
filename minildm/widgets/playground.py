"""All that decides a drawing, to play with: prompt, what to steer away from, guidance, steps, seed.
Chapter 11."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import traitlets
from torch import Tensor

from minildm.widgets.page import as_address, script, style
from minildm.widgets.prompts import Asks

Draw = Callable[[list[str], str, float, int, int], Tensor]
SETTINGS = ("prompt", "negative", "guidance", "steps", "seed")


class PromptPlayground(Asks):
    """Menus and sliders over drawings that are there, and fields for a prompt of one's own: see
    `prompt_playground`.

    `place` holds five numbers: which prompt, negative prompt, guidance, steps and seed are shown.
    """

    _esm = script("playground.js")
    _css = style("playground.css")
    options = traitlets.List(traitlets.List()).tag(sync=True)  # of each of SETTINGS, its values
    sheets = traitlets.List(traitlets.Unicode()).tag(
        sync=True
    )  # of each prompt: all settings in one PNG, a row a seed
    place = traitlets.List(traitlets.Int(), [0] * len(SETTINGS)).tag(sync=True)
    away = traitlets.Unicode("").tag(sync=True)  # the reader's own negative prompt
    own = traitlets.List().tag(
        sync=True
    )  # [prompt, negative, guidance, steps, seed, picture]: drawn last by a kernel

    @traitlets.validate("place")
    def _within(self, proposal) -> list[int]:
        counts = [len(values) for values in self.options]
        place = proposal["value"]
        if len(place) != len(counts) or not all(
            0 <= i < n for i, n in zip(place, counts, strict=True)
        ):
            raise ValueError(f"expected a place below {counts}, got {place}")
        return place


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
    options = [list(values) for values in (prompts, negatives, guidances, steps, seeds)]
    for name, values in zip(SETTINGS, options, strict=True):
        if not values or len(set(values)) != len(values):
            raise ValueError(f"expected one or more values of {name}, each once, got {values}")
    drawn = [
        draw(list(prompts), *settings) for settings in product(*options[1:])
    ]  # the seed changes fastest
    if any(len(pictures) != len(prompts) for pictures in drawn):
        raise ValueError(
            f"expected {len(prompts)} pictures of draw, got {[len(pictures) for pictures in drawn]}"
        )
    sheets = [
        as_address([pictures[i] for pictures in drawn], ncols=len(seeds), gap=0)
        for i in range(len(prompts))
    ]
    widget = PromptPlayground(options=options, sheets=sheets)

    def answer(prompt: str) -> None:
        if not prompt.strip():
            raise ValueError("expected a prompt, got nothing")
        settings = [values[i] for values, i in zip(options[2:], widget.place[2:], strict=True)]
        picture = draw([prompt], widget.away, *settings)
        widget.own = [prompt, widget.away, *settings, as_address(picture)]

    widget.answer = answer
    return widget
