"""The field explorer: the flow that the page computes, what travels to it, and what it refuses."""

import numpy as np
import pytest
import torch
from javascript import JavaScript

from minildm.widgets import field_explorer

T, G, EXTENT = 3, 5, 2.0
FIELD = torch.randn(T, G, G, 2, generator=torch.Generator().manual_seed(0))
LABELS = ["much noise", "some", "little"]


@pytest.fixture(scope="module")
def flow():
    return JavaScript("flow.js")


@pytest.mark.parametrize("t", range(T))
def test_between_the_nodes_the_page_interpolates_as_grid_sample_does(flow, t):
    # some of them beyond the edge
    points = 3 * torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    assert (points.abs() > EXTENT).any() and (points.abs() < EXTENT).all(-1).any()
    picture = FIELD[t].permute(2, 0, 1)[None].double()
    where = (points / EXTENT).double()[None, None]
    expected = torch.nn.functional.grid_sample(
        picture, where, "bilinear", "border", align_corners=True
    )
    field = FIELD.flatten().tolist()
    steps = [flow("stepAt", field, t, G, EXTENT, point) for point in points.tolist()]
    torch.testing.assert_close(torch.tensor(steps, dtype=torch.float64), expected[0, :, 0].T)


def test_at_a_node_the_page_takes_the_step_of_row_y_and_column_x(flow):
    axis = torch.linspace(-EXTENT, EXTENT, G).tolist()
    step = flow("stepAt", FIELD.flatten().tolist(), 1, G, EXTENT, [axis[4], axis[2]])
    assert step == pytest.approx(FIELD[1, 2, 4].tolist())


def test_a_particle_in_a_linear_field_falls_as_the_closed_form_says(flow):
    """A tenth of the way to the origin at each of the levels that are left: after n of them 0.9 to
    the power n."""
    axis = torch.linspace(-EXTENT, EXTENT, G)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    field = -0.1 * torch.stack([x, y], dim=-1).expand(T, G, G, 2)
    path = flow("descend", field.flatten().tolist(), 1, T, G, EXTENT, [1.5, -0.7])
    expected = [[1.5 * 0.9**n, -0.7 * 0.9**n] for n in range(T)]
    np.testing.assert_allclose(path, expected, rtol=1e-6)


def test_the_distance_shown_is_the_mean_of_the_nearest(flow):
    points, data = torch.randn(2, 20, 2, generator=torch.Generator().manual_seed(2)).double()
    expected = torch.cdist(points, data).min(dim=1).values.mean()
    assert flow("meanDistance", points.tolist(), data.flatten().tolist()) == pytest.approx(
        float(expected)
    )


def test_fields_and_points_travel_as_float32_in_order():
    points = torch.randn(7, 2)
    widget = field_explorer({"a": FIELD, "b": -FIELD.double()}, EXTENT, LABELS, points)
    numbers = torch.from_numpy(np.frombuffer(widget.fields, "<f4").copy()).reshape(2, T, G, G, 2)
    torch.testing.assert_close(numbers, torch.stack([FIELD, -FIELD]), rtol=0, atol=0)
    np.testing.assert_array_equal(np.frombuffer(widget.points, "<f4").reshape(7, 2), points)
    assert (widget.grid, widget.extent, widget.labels) == (G, EXTENT, LABELS)


def test_python_moves_the_widget_to_the_end_of_the_last_step_and_no_further():
    widget = field_explorer({"a": FIELD}, EXTENT, LABELS)
    widget.index = T
    with pytest.raises(ValueError, match="expected index in 0 … 3, got 4"):
        widget.index = T + 1
    with pytest.raises(ValueError, match="expected choice in 0 … 0, got 1"):
        widget.choice = 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (({}, 1, []), "at least one field, got none"),
        (({"a": FIELD}, 0.0, LABELS), "extent above 0, got 0.0"),
        (({"a": FIELD}, float("nan"), LABELS), "extent above 0, got nan"),
        (
            ({"a": FIELD[0]}, 1, LABELS),
            r"expected fields \(T, G, G, 2\) .*, got \(5, 5, 2\) for 'a'",
        ),
        (
            ({"a": FIELD[:, :4]}, 1, LABELS),
            r"expected fields \(T, G, G, 2\) .*, got \(3, 4, 5, 2\) for 'a'",
        ),
        (({"a": FIELD[:, :1, :1]}, 1, LABELS), r"G of 2 or more, got \(3, 1, 1, 2\)"),
        (({"a": FIELD[..., :1]}, 1, LABELS), r"shape \(3, 5, 5, 2\), got \(3, 5, 5, 1\)"),
        (
            ({"a": FIELD, "b": FIELD[:2]}, 1, LABELS),
            r"shape \(3, 5, 5, 2\), got \(2, 5, 5, 2\) for 'b'",
        ),
        (({"a": FIELD / 0}, 1, LABELS), "finite fields, got infinity or NaN in 'a'"),
        (({"a": FIELD}, 1, LABELS[:2]), "3 labels, one for each level, got 2"),
        (({"a": FIELD}, 1, LABELS, torch.zeros(4, 3)), r"finite points \(N, 2\), got \(4, 3\)"),
    ],
)
def test_a_wrong_field_is_an_error_that_says_what_came(arguments, message):
    with pytest.raises(ValueError, match=message):
        field_explorer(*arguments)


@pytest.mark.parametrize("extent", [float("nan"), float("inf"), -1.0, 0.0, 1e-9])
def test_the_plane_has_an_extent_that_can_be_drawn(extent):
    widget = field_explorer({"a": FIELD}, EXTENT, LABELS)
    with pytest.raises(ValueError, match="expected extent in 1e-06 … 1e.06, got"):
        widget.extent = extent
    assert widget.extent == EXTENT
    with pytest.raises(ValueError, match="expected grid in 2 … 1000, got 1"):
        widget.grid = 1


def test_with_fewer_levels_the_last_is_shown():
    widget = field_explorer({"a": FIELD}, EXTENT, LABELS)
    widget.index = T
    widget.labels = LABELS[:1]
    assert widget.index == 1
