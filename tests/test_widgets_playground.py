"""The prompt playground: every drawing lies where the page looks for it, a kernel draws what is
typed."""

import pytest
import torch
from javascript import JavaScript
from pages import decoded, heard

from minildm.widgets import prompt_playground

OPTIONS = {
    "prompts": ["a", "b"],
    "negatives": ["", "x"],
    "guidances": [1.0, 2.0, 4.0],
    "steps": [2, 5],
    "seeds": [0, 1, 2, 3],
}


def shade(prompt, negative, guidance, steps, seed):
    """One grey for each combination."""
    values = zip(OPTIONS.values(), (prompt, negative, guidance, steps, seed), strict=True)
    index = 0
    for known, value in values:
        index = index * len(known) + (known.index(value) if value in known else 0)
    return 2 * index / 96 - 1


def draw(prompts, negative, guidance, steps, seed):
    return torch.tensor([shade(prompt, negative, guidance, steps, seed) for prompt in prompts])[
        :, None, None, None
    ]


@pytest.fixture
def widget():
    return prompt_playground(draw, **OPTIONS)


@pytest.mark.parametrize(
    "place", [(0, 0, 0, 0, 0), (1, 1, 2, 1, 3), (0, 1, 0, 1, 2), (1, 0, 2, 0, 1)]
)
def test_the_page_finds_the_drawing_of_the_settings(widget, place):
    row = JavaScript("rows.js")("row", list(place), [len(values) for values in OPTIONS.values()])
    settings = [values[i] for values, i in zip(OPTIONS.values(), place, strict=True)]
    expected = round((shade(*settings) + 1) * 127.5)
    assert abs(int(decoded(widget.sheets[place[0]])[row, place[4]]) - expected) <= 1


def test_it_holds_every_combination(widget):
    assert sum(decoded(sheet).size for sheet in widget.sheets) == 2 * 2 * 3 * 2 * 4


def test_a_kernel_draws_the_readers_prompt_with_the_settings_on_show(monkeypatch):
    asked = []

    def remembering(*settings):
        asked.append(settings)
        return draw(*settings)

    widget = prompt_playground(remembering, **OPTIONS)
    asked.clear()
    widget.place, widget.away = [0, 1, 2, 1, 3], "dogs"
    heard(widget, monkeypatch, {"kind": "ask", "prompt": "mine"})
    assert asked == [(["mine"], "dogs", 4.0, 5, 3)]
    assert widget.own[:5] == ["mine", "dogs", 4.0, 5, 3]
    [answer] = heard(widget, monkeypatch, {"kind": "ask", "prompt": "  "})
    assert "expected a prompt" in answer["text"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": []}, r"one or more values of prompt, each once, got \[\]"),
        ({"seeds": [1, 1]}, "values of seed, each once"),
        ({"draw": lambda *settings: torch.zeros(3, 1, 1, 1)}, "expected 2 pictures of draw, got"),
    ],
)
def test_wrong_options_are_an_error_that_says_what_came(change, message):
    with pytest.raises(ValueError, match=message):
        prompt_playground(**{"draw": draw, **OPTIONS, **change})


def test_python_moves_it_within_its_settings_only(widget):
    widget.place = [1, 1, 2, 1, 3]
    with pytest.raises(ValueError, match=r"a place below \[2, 2, 3, 2, 4\], got \[2, 0, 0, 0, 0\]"):
        widget.place = [2, 0, 0, 0, 0]


def test_with_fewer_options_the_place_is_the_last_of_them(widget):
    widget.place = [1, 1, 2, 1, 3]
    widget.options = [["a"], ["", "x"], [1.0], [2, 5], [0, 1]]
    assert widget.place == [0, 1, 0, 1, 1]
