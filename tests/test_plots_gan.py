"""minildm.plots.gan: what the figures show, read back from them."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from minildm.plots import plot_games, plot_progress


def test_a_game_is_its_path_and_begins_at_the_dot():
    path = torch.tensor([[1.0, 0.0], [0.5, -0.5], [0.0, -0.2]])
    figure = plot_games({"a": path, "b": -path}, "x", "y")
    assert plt.get_fignums() == []
    for ax, sign in zip(figure.axes, (1, -1), strict=True):
        *_, line, dot = ax.lines
        assert list(line.get_xdata()) == [sign * 1.0, sign * 0.5, 0.0]
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (sign * 1.0, 0.0)
    assert figure.axes[0].get_ylabel() == "y"


def test_progress_has_a_line_for_each_seed_its_best_as_a_dot_and_what_it_is_compared_with():
    runs = {"gan": [([1, 2, 3], [9.0, 3.0, 4.0]), ([1, 2, 3], [8.0, 5.0, 2.0])]}
    figure = plot_progress(runs, "seconds", "distance", floor=1.0, marks={"other": 1.5})
    lines = figure.axes[0].lines
    assert [list(line.get_ydata()) for line in lines[::2]][:2] == [[9.0, 3.0, 4.0], [8.0, 5.0, 2.0]]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in lines[1:4:2]] == [
        (2, 3.0),
        (3, 2.0),
    ]
    assert [line.get_ydata()[0] for line in lines[4:]] == [1.5, 1.0]
    assert figure.axes[0].get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].texts] == ["gan", "other", "real digits"]
