"""minildm.plots.sampling: what the figures show, read back from them."""

import numpy as np
import pytest
import torch
from figures import x_of, y_of

from minildm.plots import (
    plot_convergence,
    plot_ends,
    plot_paths,
    plot_quality,
    plot_quality_time,
)

pytestmark = pytest.mark.usefixtures("no_figure_stays_open")


def lines(ax):
    return [line for line in ax.get_lines() if len(x_of(line)) > 2]


def test_paths_run_from_noise_on_the_left_to_data_on_the_right():
    sigmas, x = torch.linspace(3, 0, 20), torch.randn(20, 4)
    figure = plot_paths({"one": (sigmas, x), "two": (sigmas, -x)}, xlabel="sigma", ylabel="x")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["one", "two"]
    for ax, sign in zip(figure.axes, (1, -1), strict=True):
        assert ax.xaxis_inverted() and ax.get_xlabel() == "sigma"
        drawn = np.stack([y_of(line) for line in lines(ax)], 1)
        np.testing.assert_allclose(drawn, sign * x)


def test_every_path_and_every_end_is_a_line():
    timesteps, paths, said = torch.tensor([999, 500, 0]), torch.randn(3, 4), torch.zeros(3, 4)
    figure = plot_ends(timesteps, {"a": (paths, said), "b": (paths, said)})
    assert [ax.get_title("left") for ax in figure.axes] == ["a", "b"]
    for ax in figure.axes:
        drawn = torch.stack([torch.as_tensor(y_of(line)) for line in ax.lines], 1)
        torch.testing.assert_close(drawn, torch.cat([paths, said], 1))
        assert ax.xaxis_inverted()


def test_convergence_is_drawn_on_log_log_axes_with_the_slopes_in_the_legend():
    errors = {"euler": ((10, 20, 40), (0.4, 0.2, 0.1)), "heun": ((10, 20, 40), (0.16, 0.04, 0.01))}
    figure = plot_convergence(errors, {"euler": 1.0, "heun": 2.0})
    (ax,) = figure.axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    for line, (name, (steps, error)) in zip(lines(ax), errors.items(), strict=True):
        np.testing.assert_allclose(x_of(line), steps)
        np.testing.assert_allclose(y_of(line), error)
        assert str(line.get_label()).startswith(name)
    guides = [line for line in ax.get_lines() if len(x_of(line)) == 2]
    slopes = [np.diff(np.log(y_of(line)))[0] / np.diff(np.log(x_of(line)))[0] for line in guides]
    np.testing.assert_allclose(slopes, [-1, -2])


def test_quality_has_a_panel_for_each_cost_and_the_floor_in_each():
    curves = {"ddim": ((4, 6, 10), (7.0, 5.0, 3.0)), "ddpm": ((4, 6, 10), (10.0, 8.0, 4.0))}
    figure = plot_quality({"questions": curves, "ms": curves}, "distance", floor=1.7)
    assert [ax.get_xlabel() for ax in figure.axes] == ["questions", "ms"]
    for ax in figure.axes:
        np.testing.assert_allclose(
            [y_of(line) for line in lines(ax)], [row for _, row in curves.values()]
        )
        assert any(list(y_of(line)) == [1.7, 1.7] for line in ax.get_lines())


def test_every_point_says_its_steps():
    figure = plot_quality_time(
        {"base": [(1, 2.0, 30.0), (10, 20.0, 1.0)], "student": [(1, 1.0, 2.0)]}, "score", 0.5
    )
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.texts] == ["1", "10", "1"]
    assert list(x_of(ax.lines[0])) == [2.0, 20.0] and list(y_of(ax.lines[0])) == [30.0, 1.0]
    assert [line.get_label() for line in ax.lines] == ["base", "student", "real pictures"]
