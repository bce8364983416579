"""The figures of few-step drawing show what they are given."""

import torch

from minildm.plots import plot_ends, plot_quality_time


def test_every_path_and_every_end_is_a_line():
    timesteps, paths, said = torch.tensor([999, 500, 0]), torch.randn(3, 4), torch.zeros(3, 4)
    figure = plot_ends(timesteps, {"a": (paths, said), "b": (paths, said)})
    assert [ax.get_title("left") for ax in figure.axes] == ["a", "b"]
    for ax in figure.axes:
        drawn = torch.stack([torch.as_tensor(line.get_ydata()) for line in ax.lines], 1)
        torch.testing.assert_close(drawn, torch.cat([paths, said], 1))
        assert ax.xaxis_inverted()


def test_every_point_says_its_steps():
    figure = plot_quality_time(
        {"base": [(1, 2.0, 30.0), (10, 20.0, 1.0)], "student": [(1, 1.0, 2.0)]}, "score", 0.5
    )
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.texts] == ["1", "10", "1"]
    assert list(ax.lines[0].get_xdata()) == [2.0, 20.0] and list(ax.lines[0].get_ydata()) == [
        30.0,
        1.0,
    ]
    assert [line.get_label() for line in ax.lines] == ["base", "student", "real pictures"]
