"""The latent explorer: which picture of the grid the page shows, what a kernel draws, and what is
refused."""

import pytest
import torch
from javascript import JavaScript
from pages import decoded

from minildm.widgets import latent_explorer

POINTS, LABELS, NAMES = torch.tensor([[1.0, 2.0], [-2.0, 0.5]]), [0, 1], ["left", "right"]
GRID, EXTENT = 5, 2.0


def decode(places):
    """One pixel for each place: dark to light from left to right and, a tenth of that, from bottom
    to top."""
    value = (places[:, 0] + 0.1 * places[:, 1]) / (1.1 * EXTENT)
    return value[:, None, None, None]


@pytest.fixture(scope="module")
def page():
    return JavaScript("plane.js")


@pytest.fixture
def widget():
    return latent_explorer(decode, POINTS, LABELS, NAMES, GRID, EXTENT)


@pytest.mark.parametrize(
    "place", [(0.0, 0.0), (2.0, 2.0), (-2.0, 2.0), (1.0, -1.0), (1.4, 0.6), (-1.6, -1.9), (9, -9)]
)
def test_the_page_shows_the_picture_of_the_grid_that_is_nearest_to_the_point(page, widget, place):
    row, column = page("nearest", *place, EXTENT, GRID)
    axis = torch.linspace(-EXTENT, EXTENT, GRID)
    nearest = torch.stack([axis[(axis - value).abs().argmin()] for value in place])
    expected = (decode(nearest[None]).item() + 1) * 127.5
    assert abs(int(decoded(widget.sheet)[row, column]) - expected) <= 1


def test_the_labels_have_hues_of_their_own(page):
    hues = [page("hue", k, 10) for k in range(10)]
    assert len(set(hues)) == 10 and min(hues) >= 0 and max(hues) < 360


def test_a_kernel_draws_the_very_point_once(widget):
    asked = []
    widget.decode = lambda places: asked.append(places.tolist()) or decode(places)
    with widget.hold_trait_notifications():  # as when the page sends both
        widget.x, widget.y = 0.25, -1.5
    assert asked == [[[0.25, -1.5]]] and widget.exact[:2] == [0.25, -1.5]
    expected = (decode(torch.tensor([[0.25, -1.5]])).item() + 1) * 127.5
    assert abs(int(decoded(widget.exact[2]).item()) - expected) <= 1


def test_the_plane_is_wide_enough_for_all_points_and_python_moves_within_it():
    widget = latent_explorer(
        lambda places: torch.zeros(len(places), 1, 2, 2), POINTS, LABELS, NAMES
    )
    assert widget.extent == pytest.approx(2.1) and widget.grid == 17
    with pytest.raises(ValueError, match="expected x in -2.1 … 2.1, got 3"):
        widget.x = 3.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((decode, POINTS[0], LABELS, NAMES), r"finite points \(N, 2\), got \(2,\)"),
        ((decode, POINTS / 0, LABELS, NAMES), r"finite points \(N, 2\)"),
        ((decode, POINTS, [0], NAMES), "2 labels from 0 to 1, got 1"),
        ((decode, POINTS, [0, 2], NAMES), "2 labels from 0 to 1, got 2"),
        ((decode, POINTS, LABELS, NAMES, 1), "grid of 2 or more"),
        ((decode, POINTS, LABELS, NAMES, 3, -1.0), "extent above 0"),
        (
            (lambda places: places, POINTS, LABELS, NAMES, 3),
            r"decode to give \(9, 1 or 3, h, w\), got \(9, 2\)",
        ),
    ],
)
def test_a_wrong_plane_is_an_error_that_says_what_came(arguments, message):
    with pytest.raises(ValueError, match=message):
        latent_explorer(*arguments)


@pytest.mark.parametrize("extent", [float("nan"), float("inf"), -2.0, 0.0])
def test_the_plane_has_an_extent_that_can_be_drawn(widget, extent):
    with pytest.raises(ValueError, match="expected extent in 1e-06 … 1e.06, got"):
        widget.extent = extent
    assert widget.extent == EXTENT


def test_in_a_smaller_plane_the_point_lies_at_its_edge(widget):
    widget.x, widget.y = 1.5, -2.0
    widget.extent = 0.5
    assert (widget.x, widget.y) == (0.5, -0.5)
    with pytest.raises(ValueError, match="expected x in -0.5 … 0.5, got nan"):
        widget.x = float("nan")
