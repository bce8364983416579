"""minildm.plots.images: what the figures show, read back from them."""

from __future__ import annotations

import itertools
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figures import inside, shown
from PIL import Image

from minildm import plots
from minildm.data import MAP_COLOURS
from minildm.plots import (
    ORANGE,
    map_pictures,
    overlay,
    plot_feature_maps,
    plot_word_maps,
)

pytestmark = pytest.mark.usefixtures("no_figure_stays_open")

RED = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(3, 2, 2)


def flat_images(*values: float, channels: int = 1, height: int = 3, width: int = 4) -> torch.Tensor:
    """(N, channels, height, width): a picture of one colour for each value."""
    return (
        torch.tensor(values, dtype=torch.float32)
        .view(-1, 1, 1, 1)
        .expand(-1, channels, height, width)
    )


# Grids


def test_mosaic_places_images_row_by_row_on_white():
    sheet = plots.mosaic(flat_images(-1, 0, 1), ncols=2, gap=1)
    expected = np.full((7, 9), 255, np.uint8)
    expected[:3, :4] = 0
    expected[:3, 5:] = 128
    np.testing.assert_array_equal(sheet, expected)


def test_mosaic_is_as_square_as_possible_and_clips_noise():
    sheet = plots.mosaic(flat_images(*[-3.0] * 5, channels=3), gap=0)
    assert sheet.shape == (2 * 3, 3 * 4, 3)
    assert (sheet[:, :8] == 0).all() and (sheet[3:, 8:] == 255).all()


def test_saved_pixels_and_lists_draw_like_tensors():
    images = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = plots.mosaic(images)
    np.testing.assert_array_equal(plots.mosaic(list(images)), expected)
    pixels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(plots.mosaic(pixels), expected)
    np.testing.assert_array_equal(plots.mosaic(pixels[..., 0]), plots.mosaic(images[:, :1]))


@pytest.mark.parametrize(
    "images, message",
    [
        (
            torch.zeros(2, 4, 3, 3),
            r"float tensor \(N, 1 or 3, h, w\) .* got torch.float32 \(2, 4, 3, 3\)",
        ),
        (torch.zeros(3, 3), r"got torch.float32 \(3, 3\)"),
        (np.zeros((2, 3, 3)), r"got float64 \(2, 3, 3\)"),
        (flat_images(float("nan")), "not finite"),
        (torch.zeros(0, 1, 3, 3), "at least one image"),
        ([], r"at least one image, all of one shape, got \[\]"),
        ([torch.zeros(1, 3, 3), torch.zeros(1, 3, 4)], "of one shape, got"),
    ],
)
def test_what_is_no_image_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        plots.mosaic(images)


def test_save_grid_writes_the_mosaic_enlarged(tmp_path):
    images = torch.rand(4, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plots.save_grid(images, tmp_path / "grid.png", ncols=4, gap=1, scale=3)
    saved = np.asarray(Image.open(tmp_path / "grid.png"))
    np.testing.assert_array_equal(saved[1::3, 1::3], plots.mosaic(images, 4, 1))
    assert saved.shape == (3 * 4, 3 * (4 * 5 + 3), 3)
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]


def test_save_grid_needs_no_matplotlib(tmp_path):
    draw = f"plots.save_grid(torch.zeros(1, 1, 2, 2), {str(tmp_path / 'grid.png')!r})"
    code = (
        f"import sys, torch; from minildm import plots; {draw}; print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.stdout.split() == [b"False"], done.stderr.decode()


def test_image_grid_shows_every_image_under_its_title():
    titles = ["zero", "a handwritten one that is small", "two"]
    figure = plots.image_grid(flat_images(-1, 0, -0.5, height=20, width=20), titles, ncols=2)
    sheet = shown(figure)
    texts = figure.axes[0].texts
    assert [text.get_text().replace("\n", " ") for text in texts] == titles
    for text, value in zip(texts, (0, 128, 64), strict=True):
        x, y = (round(coordinate) for coordinate in text.get_position())
        assert sheet[y, x] == 255 and sheet[y + 2, x] == value
    assert inside(figure)


def test_image_grid_draws_into_given_axes():
    figure, axes = plt.subplots(1, 2)
    assert plots.image_grid(flat_images(-1, 1), ax=axes[1]) is figure
    assert not axes[0].get_images() and len(axes[1].get_images()) == 1
    plt.close(figure)


def test_image_grid_draws_into_a_part_of_a_figure_and_returns_the_whole():
    figure = plt.figure()
    ax = figure.subfigures(1, 2, squeeze=False)[0, 1].subplots()
    assert plots.image_grid(flat_images(-1, 1), ax=ax) is figure
    plt.close(figure)


def test_image_grid_wants_a_title_for_each_image():
    with pytest.raises(ValueError, match="title for each of the 2 images, got 1"):
        plots.image_grid(flat_images(0, 1), ["one"])


# Filmstrips


def test_filmstrip_labels_each_frame_below_its_middle():
    figure = plots.plot_filmstrip(
        flat_images(-1, 0, 1, height=9, width=9), ["0", "10", "20"], xlabel="timestep t"
    )
    (ax,) = figure.axes
    assert ax.get_xlabel() == "timestep t"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "10", "20"]
    assert [shown(figure)[4, round(x)] for x in ax.get_xticks()] == [0, 128, 255]
    assert inside(figure)


def test_long_labels_of_a_full_filmstrip_do_not_touch():
    figure = plots.plot_filmstrip(
        flat_images(*[0] * 10, height=9, width=9), ["airplane", "automobile"] * 5
    )
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_filmstrip_puts_strips_under_each_other():
    strips = [flat_images(-1, 0, height=9, width=9), flat_images(0, 1, height=9, width=9)]
    figure = plots.plot_filmstrip(strips, ["start", "end"], ["linear", "cosine"])
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["linear", "cosine"]
    values = [[shown(figure)[round(y), round(x)] for x in ax.get_xticks()] for y in ax.get_yticks()]
    assert values == [[0, 128], [128, 255]]
    assert inside(figure)


def test_filmstrip_wants_a_label_for_each_frame_and_strip():
    frames = flat_images(0, 1)
    with pytest.raises(ValueError, match=r"expected 3 frames, one for each label, got \[2\]"):
        plots.plot_filmstrip(frames, ["a", "b", "c"])
    with pytest.raises(ValueError, match="label for each of the 1 strips, got 2"):
        plots.plot_filmstrip([frames], ["a", "b"], ["one", "two"])


def test_each_feature_map_is_stretched_over_its_own_range():
    maps = torch.stack(
        [torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([[5.0, 9.0], [5.0, 9.0]])]
    )
    (image,) = plot_feature_maps({"a": maps}, count=2, size=2).axes[0].get_images()
    sheet = np.asarray(image.get_array())
    np.testing.assert_array_equal(sheet[:, :2], [[0, 255], [0, 255]])
    np.testing.assert_array_equal(sheet[:, -2:], sheet[:, :2])


def test_too_few_feature_maps_are_refused():
    with pytest.raises(ValueError, match="expected at least 8 channels"):
        plot_feature_maps({"a": torch.zeros(3, 2, 2)})


# Pictures that say where


def test_an_overlay_is_grey_where_there_is_no_heat_and_nearly_orange_where_it_is_greatest():
    drawn = overlay(RED, torch.tensor([[0.0, 1.0], [0.5, 2.0]]))
    torch.testing.assert_close(drawn[:, 0, 0], torch.full((3,), 2 * 0.299 - 1))
    assert (drawn[:, 0, 1] - (2 * torch.tensor(ORANGE) - 1)).abs().max() < 0.15
    torch.testing.assert_close(drawn[:, 1, 1], drawn[:, 0, 1])  # clamped
    torch.testing.assert_close(drawn[:, 1, 0], (drawn[:, 0, 0] + drawn[:, 0, 1]) / 2)


def test_word_maps_are_stretched_each_over_its_own_range_under_their_words():
    maps = torch.tensor([[[[0.1, 0.2], [0.1, 0.2]], [[5.0, 1.0], [1.0, 1.0]]]])
    figure = plot_word_maps(RED[None], maps, [["small", "red"]])
    (image,) = figure.axes[0].get_images()
    sheet = np.asarray(image.get_array())
    wide, left, right = sheet[-2:, :2], sheet[-2:, 4:6], sheet[-2:, 8:10]
    assert (wide == [255, 0, 0]).all()
    assert (left[:, 0] == left[0, 0, 0]).all() and (left[:, 1, 0] > left[:, 1, 2]).all()
    assert (right[0, 0] == left[0, 1]).all() and (right[1] == left[0, 0]).all()
    assert [text.get_text() for text in figure.axes[0].texts] == ["", "small", "red"]


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: overlay(RED, torch.zeros(3, 3)),
            r"expected \(C, H, W\) and \(H, W\), got \(3, 2, 2\) and \(3, 3\)",
        ),
        (
            lambda: plot_word_maps(RED[None], torch.zeros(1, 2, 2, 2), [["a"]]),
            r"expected maps for pictures and words",
        ),
    ],
)
def test_heat_that_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_class_of_a_map_has_the_colour_that_is_written_for_it():
    maps = torch.arange(11).view(1, 1, 11)
    (picture,) = map_pictures(maps)
    for k, colour in enumerate(MAP_COLOURS):
        drawn = ((picture[:, 0, k] + 1) * 127.5).round().int().tolist()
        assert "#" + bytes(drawn).hex() == colour


@pytest.mark.parametrize(
    "maps, message",
    [
        (torch.zeros(1, 2, 2), r"integer maps \(N, H, W\), got \(1, 2, 2\) torch.float32"),
        (torch.full((1, 2, 2), 11), "classes from 0 to 10, got 11 to 11"),
    ],
)
def test_what_is_no_map_is_refused(maps, message):
    with pytest.raises(ValueError, match=message):
        map_pictures(maps)
