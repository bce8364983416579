"""The frame slider: what travels to the browser, and what it refuses; and what holds for all
widgets."""

import numpy as np
import pytest
import torch
from pages import decoded

from minildm.plots import mosaic
from minildm.widgets import (
    Diagnosis,
    FieldExplorer,
    Films,
    FrameSlider,
    GuidanceSlider,
    LatentExplorer,
    MapPainter,
    PromptPlayground,
    ScheduleDesigner,
    WordAttentionViewer,
    frame_slider,
)
from minildm.widgets.page import HERE

STRIPS = {"a": torch.linspace(-1, 1, 3 * 16).reshape(3, 1, 4, 4), "b": torch.zeros(3, 1, 4, 4)}
CAPTIONS = {"a": ["a0", "a1", "a2"], "b": ["b0", "b1", "b2"]}


def test_every_frame_travels_with_the_widget_as_a_lossless_picture():
    widget = frame_slider(STRIPS, CAPTIONS)
    state = widget.get_state()
    assert state["names"] == ["a", "b"] and state["captions"] == list(CAPTIONS.values())
    for name, strip in zip(state["names"], state["frames"], strict=True):
        assert len(strip) == 3
        for frame, address in zip(STRIPS[name], strip, strict=True):
            np.testing.assert_array_equal(decoded(address), mosaic(frame[None]))


def test_curves_travel_as_plain_numbers():
    curves = {"a": torch.tensor([1.0, 0.5, 0.0]), "b": [0, 1, 2]}
    assert frame_slider(STRIPS, CAPTIONS, curves).curves == [[1.0, 0.5, 0.0], [0.0, 1.0, 2.0]]


def test_python_moves_the_widget_within_its_frames_only():
    widget = frame_slider(STRIPS, CAPTIONS)
    widget.index, widget.choice = 2, 1
    assert (widget.index, widget.choice) == (2, 1)
    with pytest.raises(ValueError, match=r"index in 0 … 2, got 3"):
        widget.index = 3
    with pytest.raises(ValueError, match=r"choice in 0 … 1, got 2"):
        widget.choice = 2


@pytest.mark.parametrize(
    "widget",
    [
        Diagnosis,
        FieldExplorer,
        Films,
        FrameSlider,
        GuidanceSlider,
        LatentExplorer,
        MapPainter,
        PromptPlayground,
        ScheduleDesigner,
        WordAttentionViewer,
    ],
)
def test_the_page_needs_nothing_from_elsewhere(widget):
    page = widget._esm + widget._css
    assert "import " not in page and page.count("http") == 1  # SVG's name, which nothing fetches


@pytest.mark.parametrize(
    "path", sorted(HERE.glob("*.js")) + sorted(HERE.glob("*.css")), ids=lambda path: path.name
)
def test_the_pages_own_files_are_as_tidy_as_the_modules(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 320 and max(map(len, lines)) <= 100
    assert not [line for line in lines if line != line.rstrip()]


@pytest.mark.parametrize(
    ("frames", "captions", "curves", "message"),
    [
        ({}, {}, None, "at least one strip"),
        (STRIPS, {"a": CAPTIONS["a"]}, None, "captions for a, b, got them for a"),
        (STRIPS, CAPTIONS | {"b": ["b0"]}, None, "3 captions for 'b', got 1"),
        (STRIPS | {"b": torch.zeros(2, 1, 4, 4)}, CAPTIONS, None, "3 frames for 'b', got 2"),
        ({"a": torch.zeros(0, 1, 4, 4)}, {"a": []}, None, "1 frames for 'a', got 0"),
        (STRIPS, CAPTIONS, {"a": [0, 1, 2], "b": [0, 1, float("inf")]}, "finite curves"),
    ],
)
def test_a_wrong_strip_is_an_error_that_says_what_came(frames, captions, curves, message):
    with pytest.raises(ValueError, match=message):
        frame_slider(frames, captions, curves)
