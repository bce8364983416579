"""minildm.plots.metrics: what the figures show, read back from them."""

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from minildm.plots import plot_against_size, plot_balls, plot_repeats, plot_table


def test_every_repeat_is_a_dot_and_the_means_are_the_line():
    scores = torch.tensor([[1.0, 3.0], [0.0, 0.5]])
    figure = plot_against_size([10, 100], {"a": scores, "b": -scores})
    assert plt.get_fignums() == []
    for ax, sign in zip(figure.axes, (1, -1), strict=True):
        *dots, means, _ = ax.lines
        assert [list(line.get_ydata()) for line in dots] == [
            [sign * 1.0, 0.0],
            [sign * 3.0, sign * 0.5],
        ]
        assert list(means.get_ydata()) == [sign * 2.0, sign * 0.25] and ax.get_xscale() == "log"


def test_sizes_of_one_decade_have_more_than_one_number_beneath_them():
    figure = plot_against_size([1, 2, 15], {"a": torch.rand(3, 2)}, xlabel="guidance")
    figure.canvas.draw()
    (ax,) = figure.axes
    assert {"1", "3", "10"} <= {label.get_text() for label in ax.get_xticklabels()}


def test_a_table_has_its_numbers_where_they_belong_and_marks_the_alarms():
    rows, alarms = (
        {"x": (1.0, math.nan), "y": (2915.6, 0.5)},
        {"x": (True, False), "y": (False, True)},
    )
    ax = plot_table(rows, ("p", "q"), alarms).axes[0]
    assert {text.get_position(): text.get_text() for text in ax.texts} == {
        (0, 0): "1",
        (1, 0): "–",
        (0, 1): "2,916",
        (1, 1): "0.5",
    }
    assert ax.images[0].get_array().tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="expected 2 numbers"):
        plot_table({"x": (1.0,)}, ("p", "q"), {"x": (True,)})


def test_balls_have_their_radii_and_points_inside_are_filled():
    real, made = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.1, 0.0], [9.0, 9.0]])
    ax = plot_balls(real, torch.tensor([0.5, 1.0]), made, torch.tensor([True, False])).axes[0]
    assert [(*ball.center, ball.radius) for ball in ax.patches] == [
        (0.0, 0.0, 0.5),
        (2.0, 0.0, 1.0),
    ]
    points = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(points["generated, inside"].get_xydata(), made[:1])
    assert points["generated, outside"].get_markerfacecolor() == "none"


def test_the_stroke_is_at_the_mean_of_the_dots():
    ax = plot_repeats({"a": [1.0, 3.0], "b": [5.0]}, "score").axes[0]
    assert list(ax.lines[0].get_xdata()) == [1.0, 3.0] and list(ax.lines[1].get_xdata()) == [
        2.0,
        2.0,
    ]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
