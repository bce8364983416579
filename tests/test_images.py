"""minildm.data.images: bytes and back, padded and cropped, smaller and larger."""

import numpy as np
import pytest
import torch

from minildm.data import crop, enlarge, from_pixels, mnist, pad, shrink, to_pixels


def test_pad_then_crop_is_the_identity_and_wrong_sizes_are_refused():
    images = torch.rand(2, 3, 28, 28)
    torch.testing.assert_close(crop(pad(images, 36), 28), images)
    assert pad(images, 30)[:, :, 0].eq(-1).all()
    for wrong in (
        lambda: pad(images, 31),
        lambda: pad(images, 20),
        lambda: crop(images, 32),
    ):
        with pytest.raises(ValueError, match=r"got \(2, 3, 28, 28\)"):
            wrong()


def test_pixels_are_cropped_and_rounded_and_come_back():
    values = torch.arange(256).view(1, 1, 16, 16) / 127.5 - 1
    assert np.array_equal(to_pixels(values), np.arange(256, dtype=np.uint8).reshape(1, 16, 16))
    torch.testing.assert_close(from_pixels(to_pixels(values)), values)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert to_pixels(images, 28).shape == (2, 28, 28, 3) and to_pixels(images, 28).dtype == np.uint8
    assert np.array_equal(to_pixels(images, 28), to_pixels(images)[:, 2:-2, 2:-2])
    assert (from_pixels(to_pixels(images)) - images).abs().max() <= 0.5 / 127.5 + 1e-6


def test_what_are_no_pixels_is_refused():
    for wrong in (
        torch.zeros(1, 8, 8),
        torch.zeros(1, 2, 8, 8),
        torch.full((1, 1, 8, 8), float("nan")),
    ):
        with pytest.raises(ValueError, match=r"expected finite images \(N, 1 or 3, H, W\)"):
            to_pixels(wrong)
    for pixels in (
        np.zeros((1, 8, 8)),
        np.zeros((8, 8), np.uint8),
        np.zeros((1, 8, 8, 2), np.uint8),
    ):
        with pytest.raises(ValueError, match=r"expected uint8 \(N, H, W\)"):
            from_pixels(pixels)


def test_a_digit_survives_being_shrunk_and_enlarged():
    digits = mnist("test").images[:200]
    back = enlarge(shrink(digits))
    assert back.shape == digits.shape
    assert back.min() >= -1 and back.max() <= 1
    blank = (digits + 1).square().mean()
    assert (back - digits).square().mean() < 0.15 * blank


@pytest.mark.parametrize("function, size", [(shrink, 32), (enlarge, 28)])
def test_pictures_of_another_size_are_refused(function, size):
    with pytest.raises(ValueError, match=f"expected digits.*{size}, {size}"):
        function(torch.zeros(1, 1, size, size))
