"""The word-attention viewer and the guidance slider: what travels to the browser, what a kernel
answers, what they refuse."""

import numpy as np
import pytest
import torch
from javascript import JavaScript
from pages import decoded, heard

from minildm.plots import mosaic, overlay
from minildm.widgets import WordMaps, guidance_slider, word_attention_viewer

GENERATOR = torch.Generator().manual_seed(0)
WORDS, STOPS = ["a", "red", "three"], ["t = 900", "t = 100"]
PICTURES = torch.rand(2, 3, 4, 4, generator=GENERATOR) * 2 - 1
MAPS = torch.rand(2, 3, 4, 4, generator=GENERATOR) / 10
DRAWN = WordMaps(WORDS, PICTURES, MAPS, STOPS)
LOTS = [torch.rand(4, 3, 4, 4, generator=GENERATOR) * 2 - 1 for _ in range(3)]
CURVES = {"accuracy": ([1, 8], [0.5, 0.9])}


def test_every_word_travels_with_every_step_laid_over_that_steps_picture():
    widget = word_attention_viewer({"a red three": DRAWN})
    assert widget.words == [WORDS] and widget.stops == [STOPS] and widget.prompts == ["a red three"]
    for step in range(2):
        np.testing.assert_array_equal(
            decoded(widget.pictures[0][step]), mosaic(PICTURES[step][None])
        )
        for word in range(3):
            low, high = MAPS[:, word].min(), MAPS[:, word].max()
            expected = overlay(PICTURES[step], (MAPS[step, word] - low) / (high - low))
            np.testing.assert_array_equal(
                decoded(widget.overlays[0][step][word]), mosaic(expected[None])
            )
    low, high = MAPS[1, 2].min(), MAPS[1, 2].max()
    assert widget.shares[0][1][2] == f"{low:.1%} to {high:.1%} of each place's attention"


def test_python_moves_the_viewer_within_its_words_and_steps_only():
    widget = word_attention_viewer({"a red three": DRAWN})
    widget.word, widget.index = 2, 1
    for name, message in (
        ("word", "word in 0 … 2, got 5"),
        ("index", "index in 0 … 1, got 5"),
        ("choice", "0 … 0"),
    ):
        with pytest.raises(ValueError, match=message):
            setattr(widget, name, 5)


def test_a_typed_prompt_is_drawn_added_and_shown(monkeypatch):
    asked = []
    widget = word_attention_viewer(
        {"a red three": DRAWN}, lambda prompt: asked.append(prompt) or DRAWN
    )
    assert heard(widget, monkeypatch, {"kind": "hello"}) == [{"kind": "here"}]
    assert {"kind": "done", "text": ""} in heard(
        widget, monkeypatch, {"kind": "ask", "prompt": "a blue two"}
    )
    assert asked == ["a blue two"] and widget.prompts == ["a red three", "a blue two"]
    assert (widget.choice, widget.word, widget.index) == (1, 0, 1) and len(widget.overlays) == 2


def test_what_a_prompt_is_refused_for_is_told_to_the_reader(monkeypatch):
    def draw(prompt):
        raise ValueError("expected prompts, got none")

    widget = guidance_slider({"a": LOTS}, [1, 2, 4], CURVES, draw)
    assert heard(widget, monkeypatch, {"kind": "ask", "prompt": ""}) == [
        {"kind": "done", "text": "expected prompts, got none"}
    ]
    assert widget.names == ["a"]


def test_without_someone_to_draw_the_page_is_not_answered(monkeypatch):
    for widget in (
        word_attention_viewer({"a red three": DRAWN}),
        guidance_slider({"a": LOTS}, [1, 2, 4], CURVES),
    ):
        assert heard(widget, monkeypatch, {"kind": "hello"}) == []
        assert heard(widget, monkeypatch, {"kind": "ask", "prompt": "a"}) == []


def test_each_scale_has_a_sheet_of_its_pictures_and_the_curves_travel_as_numbers(monkeypatch):
    widget = guidance_slider({"a": LOTS, "b": LOTS[::-1]}, [1, 2, 4], CURVES, lambda prompt: LOTS)
    assert widget.names == ["a", "b"] and widget.scales == [1.0, 2.0, 4.0]
    assert widget.curves == {"accuracy": [[1.0, 8.0], [0.5, 0.9]]}
    for frames, lots in zip(widget.frames, (LOTS, LOTS[::-1]), strict=True):
        for address, lot in zip(frames, lots, strict=True):
            np.testing.assert_array_equal(decoded(address), mosaic(lot, ncols=2))
    heard(widget, monkeypatch, {"kind": "ask", "prompt": "c"})
    assert widget.names == ["a", "b", "c"] and widget.choice == 2
    assert widget.frames[2] == widget.frames[0]
    with pytest.raises(ValueError, match="index in 0 … 2, got 3"):
        widget.index = 3


def test_between_measured_scales_the_page_interpolates_as_numpy_does():
    between = JavaScript("chart.js")
    xs, ys = [1.0, 2.0, 5.0], [0.3, 0.9, 0.1]
    for x in (0.0, 1.0, 1.3, 2.0, 4.9, 5.0, 9.0):
        assert between("between", xs, ys, x) == pytest.approx(float(np.interp(x, xs, ys)))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: word_attention_viewer({}), "at least one prompt, got none"),
        (
            lambda: word_attention_viewer({"a": DRAWN._replace(maps=MAPS[:, :, :2])}),
            r"'a': expected pictures \(S, 3",
        ),
        (
            lambda: word_attention_viewer({"a": DRAWN._replace(words=WORDS[:2])}),
            "got 2 words, 2 stops and maps",
        ),
        (
            lambda: word_attention_viewer({"a": DRAWN._replace(stops=STOPS[:1])}),
            "got 3 words, 1 stops and maps",
        ),
        (lambda: guidance_slider({}, [1, 2], CURVES), "at least one prompt, got none"),
        (
            lambda: guidance_slider({"a": LOTS}, [1, 4, 2], CURVES),
            r"finite rising scales, got \[1.0, 4.0, 2.0\]",
        ),
        (
            lambda: guidance_slider({"a": LOTS}, [1, 2], CURVES),
            r"'a': expected 2 lots of 4 pictures.* \[4, 4, 4\]",
        ),
        (
            lambda: guidance_slider({"a": [*LOTS[:2], LOTS[2][:1]]}, [1, 2, 4], CURVES),
            r"got \[4, 4, 1\]",
        ),
        (
            lambda: guidance_slider({"a": LOTS}, [1, 2, 4], {"x": ([1, 2], [1])}),
            "as many finite values for 'x'",
        ),
        (lambda: guidance_slider({"a": LOTS}, [1, 2, 4], {"x": ([2, 1], [1, 1])}), "rising scales"),
    ],
)
def test_a_wrong_drawing_is_an_error_that_says_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_prompt_with_fewer_words_and_steps_shows_its_last_ones():
    short = WordMaps(WORDS[:1], PICTURES[:1], MAPS[:1, :1], STOPS[:1])
    widget = word_attention_viewer({"a red three": DRAWN, "a": short})
    widget.word, widget.index = 2, 1
    widget.choice = 1
    assert (widget.word, widget.index) == (0, 0)
    widget.choice = 0
    assert (widget.word, widget.index) == (0, 0)


@pytest.mark.parametrize("columns", [0, -1, 10**9])
def test_pictures_lie_in_columns_that_there_can_be(columns):
    with pytest.raises(ValueError, match="expected columns in 1 … 1000, got"):
        guidance_slider({"a": LOTS}, [1, 2, 4], CURVES).columns = columns
