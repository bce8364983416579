"""minildm.plots.bars: what the figures show, read back from them."""

import numpy as np
import pytest
import torch
from figures import every, inside, x_of
from matplotlib.patches import Rectangle, StepPatch

from minildm.plots import plot_costs, plot_groups, plot_histograms, plot_repeats, plot_scores

pytestmark = pytest.mark.usefixtures("no_figure_stays_open")

SCORES = {
    "seen": {"class": [0.2, 0.4], "text": [0.9]},
    "held out": {"class": [0.0], "text": [0.5, 0.7]},
}


def outlines(figure) -> list:
    steps = every(StepPatch, figure.axes[0].patches)
    return [step.get_data() for step in steps if not step.get_fill()]


def test_histograms_share_their_bins_and_add_up_to_one_even_for_many_equal_values():
    many = torch.full((20_000_000,), -1.0)  # more than a float32 counts
    many[-5_000_000:] = 1.0
    figure = plot_histograms({"many": many, "few": torch.tensor([0.0, 1.0, 1.0])}, "x", bins=4)
    first, second = outlines(figure)
    np.testing.assert_allclose(first.values, [0.75, 0, 0, 0.25])
    np.testing.assert_allclose(second.values, [0, 0, 1 / 3, 2 / 3])
    np.testing.assert_allclose(first.edges, [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_array_equal(first.edges, second.edges)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["many", "few"]
    assert inside(figure)


def test_groups_have_a_bar_to_each_mean_and_a_dot_for_each_seed():
    (ax,) = plot_groups(SCORES, "right", {"seen": 0.97}).axes[:1]
    assert sorted(round(bar.get_width(), 6) for bar in every(Rectangle, ax.patches)) == [
        0.0,
        0.3,
        0.6,
        0.9,
    ]
    dots = [list(x_of(line)) for line in ax.lines if line.get_marker() == "o"]
    assert sorted(dots) == [[0.0], [0.2, 0.4], [0.5, 0.7], [0.9]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["seen", "held out"]
    assert [0.97, 0.97] in [list(x_of(line)) for line in ax.lines]


def test_groups_of_different_ways_are_refused():
    with pytest.raises(ValueError, match="the same ways in every group"):
        plot_groups({"a": {"x": [1]}, "b": {"y": [1]}}, "")


def test_scores_have_a_bar_to_the_mean_and_a_dot_for_each():
    figure = plot_scores({"a": [1.0, 3.0], "b": [4.0]}, "score", floor=0.5)
    ax = figure.axes[0]
    assert [bar.get_width() for bar in every(Rectangle, ax.patches)] == [2.0, 4.0]
    assert [list(x_of(line)) for line in ax.lines] == [[1.0, 3.0], [4.0], [0.5, 0.5]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    with pytest.raises(ValueError, match="expected scores"):
        plot_scores({"a": []}, "score")


def test_the_stroke_is_at_the_mean_of_the_dots():
    ax = plot_repeats({"a": [1.0, 3.0], "b": [5.0]}, "score").axes[0]
    assert [list(x_of(line)) for line in ax.lines[:2]] == [[1.0, 3.0], [2.0, 2.0]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_every_bar_ends_at_its_cost_on_a_logarithmic_axis():
    figure = plot_costs({"TFLOP": {"a": 2.0, "b": 3000.0}, "GB": {"a": 0.5, "b": 0.25}})
    expected = (([2.0, 3000.0], "TFLOP"), ([0.5, 0.25], "GB"))
    for ax, (ends, label) in zip(figure.axes, expected, strict=True):
        bars = every(Rectangle, ax.patches)
        assert [bar.get_x() + bar.get_width() for bar in bars] == pytest.approx(ends)
        assert (ax.get_xscale(), ax.get_xlabel()) == ("log", label)
    assert [text.get_text() for text in figure.axes[0].texts] == [" 2", " 3,000"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]


def test_costs_that_have_no_logarithm_or_other_names_are_refused():
    for panels in ({"x": {"a": 0.0}}, {"x": {"a": 1.0}, "y": {"b": 1.0}}, {}):
        with pytest.raises(ValueError, match="expected positive costs of the same names"):
            plot_costs(panels)
