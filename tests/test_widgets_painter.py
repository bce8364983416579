"""The map painter: what travels to the browser, what the brush does, what a kernel answers, what it
refuses."""

import numpy as np
import pytest
import torch
from javascript import JavaScript
from pages import decoded, heard

from minildm.plots import mosaic
from minildm.widgets.painter import PAINTED, MapStrip, as_text, from_text, map_painter

GENERATOR = torch.Generator().manual_seed(0)
MAPS = torch.randint(11, (3, 4, 4), generator=GENERATOR)
PICTURES = torch.rand(3, 3, 8, 8, generator=GENERATOR) * 2 - 1
STRIP = MapStrip(MAPS, PICTURES, ["a", "b", "c"])


def test_every_map_travels_with_its_picture_and_its_caption():
    widget = map_painter({"one": STRIP, "two": MapStrip(MAPS[1:], PICTURES[1:], ["x", "y"])})
    assert widget.names == ["one", "two"] and widget.captions == [["a", "b", "c"], ["x", "y"]]
    assert widget.painted == widget.maps[0][0] and len(widget.classes) == len(widget.colours) == 11
    for k, (maps, pictures) in enumerate(((MAPS, PICTURES), (MAPS[1:], PICTURES[1:]))):
        for i in range(len(maps)):
            assert from_text(widget.maps[k][i], 4, 11).equal(maps[i])
            np.testing.assert_array_equal(decoded(widget.frames[k][i]), mosaic(pictures[i : i + 1]))


def test_a_map_as_text_reads_row_after_row_and_the_ground_is_the_letter_a():
    assert as_text(torch.tensor([[0, 1], [9, 10]])) == "019a"
    with pytest.raises(ValueError, match="expected 4 letters of '0123456789a', got 4 of '0b'"):
        from_text("000b", 2, 11)
    with pytest.raises(ValueError, match="expected 4 letters"):
        from_text("00000", 2, 11)


def test_python_moves_the_widget_within_its_maps_only():
    widget = map_painter({"one": STRIP})
    widget.index = 2
    for name, message in (("index", "index in 0 … 2, got 3"), ("choice", "choice in 0 … 0, got 3")):
        with pytest.raises(ValueError, match=message):
            setattr(widget, name, 3)


def test_what_is_painted_is_drawn_with_the_prompt_and_added_behind_the_rest(monkeypatch):
    asked = []

    def draw(painted, prompt):
        asked.append((painted, prompt))
        return PICTURES[0]

    widget = map_painter({"one": STRIP}, draw)
    assert heard(widget, monkeypatch, {"kind": "hello"}) == [{"kind": "here"}]
    for prompt, map_ in (("a red three", MAPS[2]), ("", MAPS[1])):
        widget.painted = as_text(map_)
        assert {"kind": "done", "text": ""} in heard(
            widget, monkeypatch, {"kind": "ask", "prompt": prompt}
        )
    assert [prompt for _, prompt in asked] == ["a red three", ""]
    assert asked[0][0].equal(MAPS[2]) and asked[1][0].equal(MAPS[1])
    assert widget.names == ["one", PAINTED] and (widget.choice, widget.index) == (1, 1)
    assert widget.maps[1] == [as_text(MAPS[2]), as_text(MAPS[1])] and len(widget.maps[0]) == 3
    assert widget.captions[1] == ["“a red three”", "no prompt, the map alone"]
    np.testing.assert_array_equal(decoded(widget.frames[1][0]), mosaic(PICTURES[:1]))


def test_what_is_refused_is_told_to_the_reader_and_nothing_is_added(monkeypatch):
    widget = map_painter({"one": STRIP}, lambda painted, prompt: PICTURES[0])
    widget.painted = "z"
    [answer] = heard(widget, monkeypatch, {"kind": "ask", "prompt": ""})
    assert answer["kind"] == "done" and answer["text"].startswith("expected 16 letters")
    assert widget.names == ["one"]


def test_without_someone_to_draw_the_page_is_not_answered(monkeypatch):
    assert heard(map_painter({"one": STRIP}), monkeypatch, {"kind": "hello"}) == []


def painted(start, end, letter, brush, side=8):
    """The brush in Python: every pixel that the square covers at one of the points between."""
    expected = [["a"] * side for _ in range(side)]
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    below, above = (brush - 1) // 2, brush // 2
    for i in range(steps + 1):
        x, y = (
            int(np.floor(a + (b - a) * i / steps + 0.5)) for a, b in zip(start, end, strict=True)
        )
        for row in range(max(0, y - below), min(side, y + above + 1)):
            for column in range(max(0, x - below), min(side, x + above + 1)):
                expected[row][column] = letter
    return "".join(map("".join, expected))


@pytest.mark.parametrize("brush", [1, 2, 3])
@pytest.mark.parametrize(
    "start, end", [((2, 3), (2, 3)), ((0, 0), (7, 7)), ((7, 2), (1, 2)), ((6, 7), (1, 0))]
)
def test_a_stroke_covers_what_lies_under_the_brush_and_nothing_outside(start, end, brush):
    page = JavaScript("brush.js")
    assert page("stroke", "a" * 64, 8, start, end, "3", brush) == painted(start, end, "3", brush)


def test_a_map_is_told_in_words_too():
    page = JavaScript("brush.js")
    names = [*map(str, range(10)), "ground"]
    assert page("inWords", "aa3a", names) == "semantic map with 3, ground"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: map_painter({}), "at least one strip of maps, got none"),
        (
            lambda: map_painter({"a": STRIP._replace(maps=MAPS[:2])}),
            "'a': expected as many maps .* got 2, 3 and 3",
        ),
        (lambda: map_painter({"a": STRIP._replace(captions=["x"])}), "got 3, 3 and 1"),
        (
            lambda: map_painter({"a": STRIP._replace(maps=MAPS.float())}),
            r"integer maps \(K, 4, 4\).*float32",
        ),
        (lambda: map_painter({"a": STRIP._replace(maps=MAPS + 5)}), "classes from 0 to 10, got"),
        (
            lambda: map_painter({"a": STRIP, "b": STRIP._replace(maps=MAPS[:, :2, :2])}),
            r"'b': expected integer maps \(K, 4, 4\), got \(3, 2, 2\)",
        ),
        (
            lambda: map_painter({"a": STRIP}, classes=["x"]),
            "expected 2 to 16 classes, a colour each, got 1 and 11",
        ),
    ],
)
def test_a_wrong_strip_is_an_error_that_says_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_shorter_strip_shows_its_last_map():
    widget = map_painter({"one": STRIP, "two": MapStrip(MAPS[1:], PICTURES[1:], ["x", "y"])})
    widget.index = 2
    widget.choice = 1
    assert widget.index == 1
    with pytest.raises(ValueError, match="expected side in 1 … 1000, got 0"):
        widget.side = 0
