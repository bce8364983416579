"""minildm.plots.curves: what the figures show, read back from them."""

import numpy as np
import pytest
import torch
from figures import inside, x_of, y_of
from matplotlib.collections import LineCollection

from minildm.diffusion import make_betas
from minildm.plots import (
    plot_against_size,
    plot_curves,
    plot_levels,
    plot_progress,
    plot_schedules,
    plot_side_by_side,
    plot_spectra,
)

pytestmark = pytest.mark.usefixtures("no_figure_stays_open")

LINEAR = torch.cumprod(1 - make_betas("linear"), 0)


def test_curves_show_the_mean_and_the_deviation_of_the_seeds():
    seeds = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    figure = plot_curves([0, 10], {"several": seeds, "one": torch.tensor([5.0, 5.0])}, "x", "y")
    several, one = (line for line in figure.axes[0].lines if str(line.get_marker()) not in "_|2")
    np.testing.assert_allclose(y_of(several).astype(float), [2, 4])
    np.testing.assert_allclose(y_of(one).astype(float), [5, 5])
    (bars,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    lengths = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(lengths, 2 * seeds.std(0).numpy(), rtol=1e-5)


def test_noise_is_on_the_left():
    figure = plot_levels(
        {"one": torch.ones(5), "two": torch.ones(5)}, torch.linspace(5, -5, 5), "error"
    )
    left, right = figure.axes[0].get_xlim()
    assert left < right and len(figure.axes[0].lines) == 2
    assert figure.axes[0].get_xlabel() == "log SNR: noise on the left, clean on the right"


def test_panels_hold_their_lines_and_levels():
    figure = plot_side_by_side(
        [1, 2],
        {"accuracy": {"a": [0.1, 0.2], "b": [0.3, 0.4]}, "spread": {"a": [3, 2]}},
        "w",
        [0.5],
    )
    left, right = figure.axes
    assert [list(y_of(line)) for line in left.lines[:2]] == [[0.1, 0.2], [0.3, 0.4]]
    assert list(y_of(left.lines[2])) == [0.5, 0.5] and len(right.lines) == 1
    assert left.get_title(loc="left") == "accuracy" and right.get_xlabel() == "w"


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: plot_curves([0, 1], {"a": torch.zeros(3)}, "x", "y"),
            r"expected \(2,\) or \(seeds, 2\) for 'a'",
        ),
        (lambda: plot_levels({}, torch.ones(1), ""), "expected 1 to 7 curves, got 0"),
        (
            lambda: plot_side_by_side([1], {"a": {"x": [1, 2]}}, ""),
            "expected 1 numbers for each line of 'a'",
        ),
    ],
)
def test_curves_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_schedules_are_drawn_as_given_with_their_signal_to_noise_ratio():
    figure = plot_schedules({"linear": LINEAR, "half": torch.full((5,), 0.5)})
    left, right = figure.axes
    torch.testing.assert_close(torch.tensor(y_of(left.lines[0])), LINEAR.double())
    snr = LINEAR.double() / (1 - LINEAR.double())
    torch.testing.assert_close(torch.tensor(y_of(right.lines[0])), snr)
    assert set(y_of(right.lines[1])) == {1.0} and len(y_of(right.lines[1])) == 5
    assert right.get_yscale() == "log" and left.get_yscale() == "linear"


def test_schedule_figure_names_its_axes_and_lines():
    names = [
        "linear",
        "scaled_linear (Stable Diffusion)",
        "squaredcos_cap_v2",
        "sigmoid",
        "zero-terminal-SNR",
    ]
    figure = plot_schedules(dict.fromkeys(names, LINEAR))
    left, right = figure.axes
    assert all(ax.get_title(loc="left") and "timestep" in ax.get_xlabel() for ax in figure.axes)
    assert "alpha" in left.get_ylabel() and "SNR" in right.get_ylabel()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    assert inside(figure)


def test_lines_of_seven_schedules_differ_in_colour_and_in_dashes():
    lines = plot_schedules({str(i): LINEAR for i in range(7)}).axes[0].lines
    assert len({line.get_color() for line in lines}) == 7
    assert len({str(vars(line)["_unscaled_dash_pattern"]) for line in lines}) == 7


def test_pure_noise_and_pure_signal_leave_the_frame_instead_of_vanishing():
    (_, right) = plot_schedules({"zero": torch.linspace(1, 0, 11)}).axes
    snr = y_of(right.lines[0])
    low, high = right.get_ylim()
    assert np.isfinite(snr).all() and 0 < snr[-1] < low and snr[0] > high


@pytest.mark.parametrize(
    "schedules",
    [{}, {str(i): LINEAR for i in range(8)}, {"betas": LINEAR + 1}, {"a": LINEAR[None]}],
)
def test_what_is_no_schedule_is_refused(schedules):
    with pytest.raises(ValueError, match="expected"):
        plot_schedules(schedules)


def test_spectra_rise_to_one_and_the_dot_stands_where_the_share_is_reached():
    figure = plot_spectra(
        {"steep": torch.tensor([8.0, 1.5, 0.5]), "flat": torch.ones(10)}, share=0.9
    )
    steep, dot, flat, other_dot = figure.axes[0].lines[:4]
    np.testing.assert_allclose(y_of(steep), [0.8, 0.95, 1.0])
    np.testing.assert_allclose(y_of(flat), np.linspace(0.1, 1, 10))
    assert x_of(dot)[0] == 2 and x_of(other_dot)[0] == 9
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "steep: 2 of 3",
        "flat: 9 of 10",
    ]
    assert inside(figure)


def test_progress_has_a_line_for_each_seed_its_best_as_a_dot_and_what_it_is_compared_with():
    runs = {"gan": [([1, 2, 3], [9.0, 3.0, 4.0]), ([1, 2, 3], [8.0, 5.0, 2.0])]}
    figure = plot_progress(runs, "seconds", "distance", floor=1.0, marks={"other": 1.5})
    lines = figure.axes[0].lines
    assert [list(y_of(line)) for line in lines[::2]][:2] == [[9.0, 3.0, 4.0], [8.0, 5.0, 2.0]]
    assert [(x_of(line)[0], y_of(line)[0]) for line in lines[1:4:2]] == [
        (2, 3.0),
        (3, 2.0),
    ]
    assert [y_of(line)[0] for line in lines[4:]] == [1.5, 1.0]
    assert figure.axes[0].get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].texts] == ["gan", "other", "real digits"]


def test_every_repeat_is_a_dot_and_the_means_are_the_line():
    scores = torch.tensor([[1.0, 3.0], [0.0, 0.5]])
    figure = plot_against_size([10, 100], {"a": scores, "b": -scores})
    for ax, sign in zip(figure.axes, (1, -1), strict=True):
        *dots, means, _ = ax.lines
        assert [list(y_of(line)) for line in dots] == [
            [sign * 1.0, 0.0],
            [sign * 3.0, sign * 0.5],
        ]
        assert list(y_of(means)) == [sign * 2.0, sign * 0.25] and ax.get_xscale() == "log"


def test_sizes_of_one_decade_have_more_than_one_number_beneath_them():
    figure = plot_against_size([1, 2, 15], {"a": torch.rand(3, 2)}, xlabel="guidance")
    figure.canvas.draw()
    (ax,) = figure.axes
    assert {"1", "3", "10"} <= {label.get_text() for label in ax.get_xticklabels()}
