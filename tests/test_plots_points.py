"""minildm.plots.points: what the figures show, read back from them."""

import numpy as np
import pytest
import torch
from figures import every, x_of, y_of
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Circle
from matplotlib.quiver import Quiver

from minildm.plots import mosaic, plot_balls, plot_fields, plot_games, plot_map, plot_points

pytestmark = pytest.mark.usefixtures("no_figure_stays_open")


def test_a_panel_for_each_set_of_points_shows_all_of_them():
    points, beneath = torch.randn(50, 2), torch.randn(20, 2)
    figure = plot_points({"alone": points, "on others": (beneath, points)}, extent=2.0)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["alone", "on others"]
    assert [len(np.asarray(dots.get_offsets())) for dots in figure.axes[1].collections] == [20, 50]
    assert all(ax.get_xlim() == (-2, 2) and ax.get_ylim() == (-2, 2) for ax in figure.axes)


def test_no_panel_to_draw_is_an_error():
    with pytest.raises(ValueError, match="expected at least one panel, got none"):
        plot_points({})


def test_arrows_stand_where_the_field_says_and_point_where_it_points():
    places = torch.linspace(-1, 1, 5)
    field = torch.stack(torch.meshgrid(places, places, indexing="xy"), dim=-1) + 3  # (x + 3, y + 3)
    (ax,) = plot_fields([field], ["away"], extent=1.0).axes
    (arrows,) = every(Quiver, ax.collections)
    x, y, u, v = (torch.tensor(part) for part in (arrows.X, arrows.Y, arrows.U, arrows.V))
    torch.testing.assert_close(u * (y + 3), v * (x + 3))
    torch.testing.assert_close(
        torch.tensor(arrows.get_array()), field.norm(dim=-1).flatten(), check_dtype=False
    )


def test_a_game_is_its_path_and_begins_at_the_dot():
    path = torch.tensor([[1.0, 0.0], [0.5, -0.5], [0.0, -0.2]])
    figure = plot_games({"a": path, "b": -path}, "x", "y")
    for ax, sign in zip(figure.axes, (1, -1), strict=True):
        *_, line, dot = ax.lines
        assert list(x_of(line)) == [sign * 1.0, sign * 0.5, 0.0]
        assert (x_of(dot)[0], y_of(dot)[0]) == (sign * 1.0, 0.0)
    assert figure.axes[0].get_ylabel() == "y"


def test_balls_have_their_radii_and_points_inside_are_filled():
    real, made = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.1, 0.0], [9.0, 9.0]])
    ax = plot_balls(real, torch.tensor([0.5, 1.0]), made, torch.tensor([True, False])).axes[0]
    assert [(*ball.center, ball.radius) for ball in every(Circle, ax.patches)] == [
        (0.0, 0.0, 0.5),
        (2.0, 0.0, 1.0),
    ]
    points = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(np.asarray(points["generated, inside"].get_xydata()), made[:1])
    assert points["generated, outside"].get_markerfacecolor() == "none"


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_lie_at_their_places_and_black_hides_no_neighbour(channels):
    images = torch.rand(4, channels, 5, 5) * 2 - 1
    places = torch.randn(4, 2)
    (ax,) = plot_map(images, places, "first", "second").axes
    boxes = [artist for artist in ax.artists if isinstance(artist, AnnotationBbox)]
    assert [box.xy for box in boxes] == [tuple(place) for place in places.tolist()]
    for box, image in zip(boxes, images, strict=True):
        pixels = mosaic(image[None])
        (held,) = every(OffsetImage, [box.offsetbox])
        drawn = held.image
        np.testing.assert_array_equal(np.asarray(drawn.get_array()), pixels)
        if channels == 1:
            np.testing.assert_array_equal(drawn.get_alpha(), pixels / 255)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("first", "second")
    with pytest.raises(ValueError, match=r"a place \(x, y\) for each of 4 images, got \(3, 2\)"):
        plot_map(images, places[:3])
