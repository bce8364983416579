"""The trajectory scrubber and the sampler race: what travels to the browser, and what they
refuse."""

import numpy as np
import pytest
import torch
from pages import decoded

from minildm.plots import mosaic
from minildm.widgets import sampler_race, trajectory_scrubber

XTS = torch.linspace(-1, 1, 3 * 4 * 16).reshape(3, 4, 1, 4, 4)
X0S = -XTS
STOPS = ["t = 9", "t = 5", "t = 0"]
PICTURES = {"slow": list(XTS[:2]), "fast": list(X0S[:2])}


def test_a_run_travels_as_two_films_of_its_steps_in_order():
    widget = trajectory_scrubber(XTS, X0S, STOPS)
    assert widget.stops == STOPS and widget.arrangement == "beside" and widget.columns == 2
    for name, frames, run in zip(widget.names, widget.frames, (XTS, X0S), strict=True):
        assert name.startswith("xt" if run is XTS else "x0")
        for address, pictures in zip(frames, run, strict=True):
            np.testing.assert_array_equal(decoded(address), mosaic(pictures))


def test_a_race_has_a_row_for_each_sampler_with_its_pictures_side_by_side():
    captions = {"slow": ["9.1", "4.5"], "fast": ["3.0", "1.2"]}
    widget = sampler_race(PICTURES, [1, 20], captions)
    assert widget.names == ["slow", "fast"] and widget.captions == [["9.1", "4.5"], ["3.0", "1.2"]]
    assert widget.stops == ["1 network evaluation", "20 network evaluations"]
    assert widget.arrangement == "rows" and widget.columns == 4
    for frames, row in zip(widget.frames, PICTURES.values(), strict=True):
        for address, pictures in zip(frames, row, strict=True):
            np.testing.assert_array_equal(decoded(address), mosaic(pictures, ncols=4))


def test_a_race_needs_no_captions():
    assert sampler_race(PICTURES, [1, 20]).captions == [["", ""], ["", ""]]


def test_python_moves_the_widget_within_its_steps_only():
    widget = trajectory_scrubber(XTS, X0S, STOPS)
    widget.index = 2
    with pytest.raises(ValueError, match=r"expected index in 0 … 2, got 3"):
        widget.index = 3


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: trajectory_scrubber(XTS[0], X0S, STOPS),
            r"expected xts \(T, N, 1 or 3, h, w\), got \(4, 1, 4, 4\)",
        ),
        (
            lambda: trajectory_scrubber(XTS, X0S[:2], STOPS),
            r"of one shape, got \(3, 4, 1, 4, 4\) and \(2, 4",
        ),
        (
            lambda: trajectory_scrubber(XTS[:, :0], X0S[:, :0], STOPS),
            r"expected xts .*, got \(3, 0, 1, 4, 4\)",
        ),
        (
            lambda: trajectory_scrubber(XTS, X0S, STOPS[:2]),
            "expected 3 captions, one for each step, got 2",
        ),
        (lambda: sampler_race({}, [1]), "at least one sampler, got none"),
        (lambda: sampler_race(PICTURES, []), r"expected rising numbers .*, got \[\]"),
        (lambda: sampler_race(PICTURES, [20, 1]), r"expected rising numbers .*, got \[20, 1\]"),
        (lambda: sampler_race(PICTURES, [0, 1]), r"expected rising numbers .*, got \[0, 1\]"),
        (
            lambda: sampler_race(PICTURES, [1, 2, 3]),
            "expected 3 lots of pictures for 'slow', .*, got 2",
        ),
        (
            lambda: sampler_race(PICTURES, [1, 2], {"slow": ["", ""]}),
            "captions for slow, fast, got them for slow",
        ),
        (
            lambda: sampler_race(PICTURES, [1, 2], {"slow": [""], "fast": [""]}),
            "expected 2 captions for 'slow'",
        ),
        (
            lambda: sampler_race({"a": [XTS[0], XTS[1][:2]]}, [1, 2]),
            r"same number of pictures .*, got \[2, 4\]",
        ),
    ],
)
def test_a_wrong_film_is_an_error_that_says_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()
