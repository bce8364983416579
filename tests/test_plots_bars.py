"""minildm.plots.bars: what the figures show, read back from them."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from minildm.plots import ORANGE, overlay, plot_groups, plot_side_by_side, plot_word_maps

RED = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(3, 2, 2)
SCORES = {
    "seen": {"class": [0.2, 0.4], "text": [0.9]},
    "held out": {"class": [0.0], "text": [0.5, 0.7]},
}


def test_an_overlay_is_grey_where_there_is_no_heat_and_nearly_orange_where_it_is_greatest():
    drawn = overlay(RED, torch.tensor([[0.0, 1.0], [0.5, 2.0]]))
    torch.testing.assert_close(drawn[:, 0, 0], torch.full((3,), 2 * 0.299 - 1))
    assert (drawn[:, 0, 1] - (2 * torch.tensor(ORANGE) - 1)).abs().max() < 0.15
    torch.testing.assert_close(drawn[:, 1, 1], drawn[:, 0, 1])  # clamped
    torch.testing.assert_close(drawn[:, 1, 0], (drawn[:, 0, 0] + drawn[:, 0, 1]) / 2)


def test_word_maps_are_stretched_each_over_its_own_range_under_their_words():
    maps = torch.tensor([[[[0.1, 0.2], [0.1, 0.2]], [[5.0, 1.0], [1.0, 1.0]]]])
    figure = plot_word_maps(RED[None], maps, [["small", "red"]])
    (image,) = figure.axes[0].get_images()
    sheet = np.asarray(image.get_array())
    wide, left, right = sheet[-2:, :2], sheet[-2:, 4:6], sheet[-2:, 8:10]
    assert (wide == [255, 0, 0]).all()
    assert (left[:, 0] == left[0, 0, 0]).all() and (left[:, 1, 0] > left[:, 1, 2]).all()
    assert (right[0, 0] == left[0, 1]).all() and (right[1] == left[0, 0]).all()
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "",
        "small",
        "red",
    ] and plt.get_fignums() == []


def test_groups_have_a_bar_to_each_mean_and_a_dot_for_each_seed():
    (ax,) = plot_groups(SCORES, "right", {"seen": 0.97}).axes[:1]
    assert sorted(round(bar.get_width(), 6) for bar in ax.patches) == [0.0, 0.3, 0.6, 0.9]
    dots = [list(line.get_xdata()) for line in ax.lines if line.get_marker() == "o"]
    assert sorted(dots) == [[0.0], [0.2, 0.4], [0.5, 0.7], [0.9]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["seen", "held out"]
    assert [0.97, 0.97] in [list(line.get_xdata()) for line in ax.lines]


def test_panels_hold_their_lines_and_levels():
    figure = plot_side_by_side(
        [1, 2],
        {"accuracy": {"a": [0.1, 0.2], "b": [0.3, 0.4]}, "spread": {"a": [3, 2]}},
        "w",
        [0.5],
    )
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.lines[:2]] == [[0.1, 0.2], [0.3, 0.4]]
    assert list(left.lines[2].get_ydata()) == [0.5, 0.5] and len(right.lines) == 1
    assert left.get_title(loc="left") == "accuracy" and right.get_xlabel() == "w"


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: overlay(RED, torch.zeros(3, 3)),
            r"expected \(C, H, W\) and \(H, W\), got \(3, 2, 2\) and \(3, 3\)",
        ),
        (
            lambda: plot_word_maps(RED[None], torch.zeros(1, 2, 2, 2), [["a"]]),
            r"expected maps for pictures and words",
        ),
        (
            lambda: plot_groups({"a": {"x": [1]}, "b": {"y": [1]}}, ""),
            "the same ways in every group",
        ),
        (
            lambda: plot_side_by_side([1], {"a": {"x": [1, 2]}}, ""),
            "expected 1 numbers for each line of 'a'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
