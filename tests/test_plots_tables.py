"""minildm.plots.tables: what the figures show, read back from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from minildm.plots import plot_confusion, plot_matrices, plot_table

pytestmark = pytest.mark.usefixtures("no_figure_stays_open")

FIRST, SECOND = torch.tensor([[0.0, 0.25, 1.0], [0.5, 0.125, 0.75]]), torch.zeros(2, 3)


def figure(**options):
    return plot_matrices({"first": FIRST, "second": SECOND}, ["a", "b"], ["x", "y", "z"], **options)


def test_every_matrix_is_drawn_as_given_under_its_title_and_on_one_scale():
    drawn = figure(limits=(-1.0, 2.0))
    left, right = drawn.axes[:2]
    for ax, matrix in ((left, FIRST), (right, SECOND)):
        (image,) = ax.get_images()
        np.testing.assert_array_equal(np.asarray(image.get_array()), matrix)
        assert image.get_clim() == (-1.0, 2.0)
    assert [ax.get_title(loc="left") for ax in (left, right)] == ["first", "second"]


def test_rows_and_columns_carry_their_labels_and_tiles_their_numbers():
    (ax,) = plot_matrices({"": FIRST}, ["a", "b"], ["x", "y", "z"], numbers=True).axes[:1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["x", "y", "z"]
    assert {text.get_position(): text.get_text() for text in ax.texts}[(2, 1)] == "0.75"
    assert len(ax.texts) == 6


def test_the_largest_number_is_the_darkest_tile():
    (image,) = figure().axes[0].get_images()
    darkness = 1 - image.to_rgba(FIRST.numpy())[..., :3].mean(-1)
    assert np.unravel_index(darkness.argmax(), darkness.shape) == (0, 2) and darkness.argmin() == 0


def test_a_scale_stands_beside_numbers_and_not_beside_yes_and_no():
    assert len(plot_matrices({"": FIRST}, ["a", "b"], ["x", "y", "z"]).axes) == 2
    assert len(plot_matrices({"": FIRST.round()}, ["a", "b"], ["x", "y", "z"]).axes) == 1


def test_labels_that_do_not_fit_and_nothing_at_all_are_refused():
    with pytest.raises(ValueError, match=r"expected matrices \(1, 3\), .* got {'first': \(2, 3\)}"):
        plot_matrices({"first": FIRST}, ["a"], ["x", "y", "z"])
    with pytest.raises(ValueError, match="at least one matrix"):
        plot_matrices({}, ["a"], ["x"])


def test_a_square_is_as_dark_as_its_share_and_only_large_ones_have_a_number():
    shares = torch.tensor([[0.75, 0.25], [0.01, 0.99]])
    figure = plot_confusion({"drawn": shares, "real": shares.flip(0, 1)}, ("cat", "dog"))
    left, right = figure.axes
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("drawn", "real")
    torch.testing.assert_close(torch.tensor(left.images[0].get_array()), shares)
    torch.testing.assert_close(torch.tensor(right.images[0].get_array()), shares.flip(0, 1))
    assert {text.get_position(): text.get_text() for text in left.texts} == {
        (0, 0): "75",
        (1, 0): "25",
        (1, 1): "99",
    }
    assert [label.get_text() for label in left.get_yticklabels()] == ["cat", "dog"]


@pytest.mark.parametrize(
    "shares", [torch.eye(3), 2 * torch.eye(2)], ids=["of other classes", "rows that sum to 2"]
)
def test_a_table_that_is_not_one_of_shares_is_refused(shares):
    with pytest.raises(ValueError, match="expected tables"):
        plot_confusion({"drawn": shares}, ("cat", "dog"))


def test_a_table_has_its_numbers_where_they_belong_and_marks_the_alarms():
    rows = {"x": (1.0, math.nan), "y": (2915.6, 0.5)}
    alarms = {"x": (True, False), "y": (False, True)}
    ax = plot_table(rows, ("p", "q"), alarms).axes[0]
    assert {text.get_position(): text.get_text() for text in ax.texts} == {
        (0, 0): "1",
        (1, 0): "–",
        (0, 1): "2,916",
        (1, 1): "0.5",
    }
    assert np.asarray(ax.images[0].get_array()).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="expected 2 numbers"):
        plot_table({"x": (1.0,)}, ("p", "q"), {"x": (True,)})
