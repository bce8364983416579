import pytest
import torch

from minildm.plots import plot_fields, plot_levels, plot_points


def test_a_panel_for_each_set_of_points_shows_all_of_them():
    points, beneath = torch.randn(50, 2), torch.randn(20, 2)
    figure = plot_points({"alone": points, "on others": (beneath, points)}, extent=2.0)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["alone", "on others"]
    assert [len(dots.get_offsets()) for dots in figure.axes[1].collections] == [20, 50]
    assert all(ax.get_xlim() == (-2, 2) and ax.get_ylim() == (-2, 2) for ax in figure.axes)


def test_arrows_stand_where_the_field_says_and_point_where_it_points():
    places = torch.linspace(-1, 1, 5)
    field = torch.stack(torch.meshgrid(places, places, indexing="xy"), dim=-1) + 3  # (x + 3, y + 3)
    (ax,) = plot_fields([field], ["away"], extent=1.0).axes
    (arrows,) = ax.collections
    torch.testing.assert_close(
        torch.tensor(arrows.U * (arrows.Y + 3)), torch.tensor(arrows.V * (arrows.X + 3))
    )
    torch.testing.assert_close(
        torch.tensor(arrows.get_array()), field.norm(dim=-1).flatten(), check_dtype=False
    )


def test_noise_grows_to_the_right():
    figure = plot_levels(
        {"one": torch.ones(5), "two": torch.ones(5)}, torch.linspace(5, -5, 5), "error"
    )
    left, right = figure.axes[0].get_xlim()
    assert left > right and len(figure.axes[0].lines) == 2


@pytest.mark.parametrize(
    "draw", [lambda: plot_points({}), lambda: plot_levels({}, torch.ones(1), "")]
)
def test_nothing_to_draw_is_an_error(draw):
    with pytest.raises(ValueError, match="expected"):
        draw()
