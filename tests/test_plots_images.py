"""minildm.plots.images: what the figures show, read back from them."""

from __future__ import annotations

import itertools
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from minildm.diffusion import make_betas
from minildm.plots import images as plots

LINEAR = torch.cumprod(1 - make_betas("linear"), 0)


def flat_images(*values: float, channels: int = 1, height: int = 3, width: int = 4) -> torch.Tensor:
    """(N, channels, height, width): a picture of one colour for each value."""
    return (
        torch.tensor(values, dtype=torch.float32)
        .view(-1, 1, 1, 1)
        .expand(-1, channels, height, width)
    )


def shown(figure) -> np.ndarray:
    (image,) = figure.axes[0].get_images()
    return np.asarray(image.get_array())


def inside(figure) -> bool:
    """Whether everything drawn lies within the figure."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return (
        box.x0 >= -0.01 and box.y0 >= -0.01 and box.x1 <= width + 0.01 and box.y1 <= height + 0.01
    )


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    plt.close("all")
    yield
    assert plt.get_fignums() == []


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


# Schedules


def test_schedules_are_drawn_as_given_with_their_signal_to_noise_ratio():
    figure = plots.plot_schedules({"linear": LINEAR, "half": torch.full((5,), 0.5)})
    left, right = figure.axes
    torch.testing.assert_close(torch.tensor(left.lines[0].get_ydata()), LINEAR.double())
    snr = LINEAR.double() / (1 - LINEAR.double())
    torch.testing.assert_close(torch.tensor(right.lines[0].get_ydata()), snr)
    assert set(right.lines[1].get_ydata()) == {1.0} and len(right.lines[1].get_ydata()) == 5
    assert right.get_yscale() == "log" and left.get_yscale() == "linear"


def test_schedule_figure_names_its_axes_and_lines():
    names = [
        "linear",
        "scaled_linear (Stable Diffusion)",
        "squaredcos_cap_v2",
        "sigmoid",
        "zero-terminal-SNR",
    ]
    figure = plots.plot_schedules(dict.fromkeys(names, LINEAR))
    left, right = figure.axes
    assert all(ax.get_title(loc="left") and "timestep" in ax.get_xlabel() for ax in figure.axes)
    assert "alpha" in left.get_ylabel() and "SNR" in right.get_ylabel()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    assert inside(figure)


def test_lines_of_seven_schedules_differ_in_colour_and_in_dashes():
    lines = plots.plot_schedules({str(i): LINEAR for i in range(7)}).axes[0].lines
    assert len({line.get_color() for line in lines}) == 7
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == 7


def test_pure_noise_and_pure_signal_leave_the_frame_instead_of_vanishing():
    (_, right) = plots.plot_schedules({"zero": torch.linspace(1, 0, 11)}).axes
    snr = right.lines[0].get_ydata()
    low, high = right.get_ylim()
    assert np.isfinite(snr).all() and 0 < snr[-1] < low and snr[0] > high


@pytest.mark.parametrize(
    "schedules",
    [{}, {str(i): LINEAR for i in range(8)}, {"betas": LINEAR + 1}, {"a": LINEAR[None]}],
)
def test_what_is_no_schedule_is_refused(schedules):
    with pytest.raises(ValueError, match="expected"):
        plots.plot_schedules(schedules)


# Distributions


def outlines(figure) -> list:
    return [patch.get_data() for patch in figure.axes[0].patches if not patch.get_fill()]


def test_histograms_share_their_bins_and_add_up_to_one_even_for_many_equal_values():
    many = torch.full((20_000_000,), -1.0)  # more than a float32 counts
    many[-5_000_000:] = 1.0
    figure = plots.plot_histograms(
        {"many": many, "few": torch.tensor([0.0, 1.0, 1.0])}, "x", bins=4
    )
    first, second = outlines(figure)
    np.testing.assert_allclose(first.values, [0.75, 0, 0, 0.25])
    np.testing.assert_allclose(second.values, [0, 0, 1 / 3, 2 / 3])
    np.testing.assert_allclose(first.edges, [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_array_equal(first.edges, second.edges)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "many",
        "few",
    ] and inside(figure)


def test_spectra_rise_to_one_and_the_dot_stands_where_the_share_is_reached():
    figure = plots.plot_spectra(
        {"steep": torch.tensor([8.0, 1.5, 0.5]), "flat": torch.ones(10)}, share=0.9
    )
    steep, dot, flat, other_dot = figure.axes[0].lines[:4]
    np.testing.assert_allclose(steep.get_ydata(), [0.8, 0.95, 1.0])
    np.testing.assert_allclose(flat.get_ydata(), np.linspace(0.1, 1, 10))
    assert dot.get_xdata()[0] == 2 and other_dot.get_xdata()[0] == 9
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "steep: 2 of 3",
        "flat: 9 of 10",
    ]
    assert inside(figure)


def test_drawing_leaves_matplotlibs_settings_alone():
    before = dict(plt.rcParams)
    plots.plot_schedules({"linear": LINEAR})
    plots.image_grid(flat_images(0))
    assert dict(plt.rcParams) == before
