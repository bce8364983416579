"""Copies of pictures: of the same pixels or nearly, in one set and between two."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from minildm.data import (
    Copy,
    DigitScenes,
    cifar10,
    find_duplicates,
    find_leaks,
    from_pixels,
    mnist,
    to_pixels,
)


@pytest.fixture(scope="module")
def photographs():
    return cifar10("train").images[:300]


def jpeg(picture, quality=75):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert(picture.mode)


def changed(images, how):
    """Enlarged, changed as files are, and made small again."""
    big = (Image.fromarray(pixels).resize((128, 128)) for pixels in to_pixels(images))
    small = [np.asarray(how(picture).resize((32, 32))) for picture in big]
    return from_pixels(np.stack(small))


@pytest.mark.parametrize(
    ("how", "part"),
    [
        (jpeg, 1.0),
        (lambda x: x.resize((90, 90)), 1.0),
        (lambda x: jpeg(x, 30), 0.98),
        (lambda x: ImageEnhance.Contrast(x).enhance(1.1), 0.98),
        (lambda x: ImageEnhance.Brightness(x).enhance(1.1), 0.93),
    ],
    ids=["jpeg", "smaller", "bad jpeg", "contrast", "brighter"],
)
def test_a_changed_copy_is_found_beside_its_original(photographs, how, part):
    leaks = find_leaks(changed(photographs, lambda x: x), changed(photographs, how))
    assert all(copy.first == copy.second for copy in leaks)
    assert len(leaks) >= part * len(photographs)


def test_different_pictures_are_no_copies(photographs):
    assert find_duplicates(cifar10("train").images) == []
    scenes = DigitScenes(mnist("train")).sample(2000, torch.Generator().manual_seed(0)).images
    assert len(find_duplicates(scenes)) <= 2
    assert len(find_duplicates(mnist("train").images[:5000])) <= 25


def test_a_copy_names_the_earliest_with_its_pixels_or_else_the_nearest(photographs):
    images = photographs[[0, 1, 0, 2, 1, 0]].clone()
    images[4, :, 0, 0] = images[4, :, 0, 0].neg()  # nearly number 1
    exact, near, again = find_duplicates(images)
    assert exact == Copy(0, 2, 0.0, exact=True) and again == Copy(0, 5, 0.0, exact=True)
    assert (near.first, near.second, near.exact) == (1, 4, False) and 0 < near.distance < 0.1


def test_without_the_second_ones_none_are_alike(photographs):
    generator = torch.Generator().manual_seed(0)
    order = torch.randint(300, (600,), generator=generator)
    noise = torch.randn(600, *photographs.shape[1:], generator=generator) / 50
    images = (photographs[order] + noise).clamp(-1, 1)
    copies = find_duplicates(images)
    assert len(copies) == 600 - len(order.unique())
    for copy in copies:
        assert order[copy.first] == order[copy.second] and copy.first < copy.second
    left = sorted(set(range(600)) - {copy.second for copy in copies})
    assert find_duplicates(images[left]) == []


def test_leaks_are_what_comparing_all_pairs_finds(photographs):
    train, test = photographs[:200], photographs[200:]
    test = torch.cat([test, changed(train[:20], jpeg), train[50:52]])
    got = {copy.second: copy for copy in find_leaks(train, test, threshold=0.6)}

    def rows(images):
        small = torch.nn.functional.adaptive_avg_pool2d(images.double(), 16).flatten(1) / 2 + 0.5
        mean = small.mean(1, keepdim=True)
        spread = small.std(1, correction=0, keepdim=True).clamp(min=0.1)
        return torch.cat([(small - mean) / spread / small.shape[1] ** 0.5, mean], 1)

    distance, nearest = torch.cdist(rows(test), rows(train)).min(1)
    assert got.keys() == set((distance <= 0.6).nonzero().flatten().tolist())
    for second, copy in got.items():
        assert copy.first == nearest[second]
        assert copy.distance == pytest.approx(distance[second].item(), abs=1e-3)
        assert copy.exact == (second >= len(test) - 2)


def test_black_is_not_white_and_grey_is_not_red():
    flat = torch.tensor([[-1.0, -1, -1], [1, 1, 1], [0, 0, 0], [1, 0, 0]])
    assert find_duplicates(flat[:, :, None, None].expand(4, 3, 32, 32)) == []


def test_what_is_near_to_nothing_is_no_leak(photographs):
    white = torch.ones(1, 3, 32, 32)
    assert find_leaks(white, -white) == find_leaks(photographs[:1], white) == []


def test_pictures_of_other_channels_are_an_error(photographs):
    with pytest.raises(ValueError, match=r"one shape, got \(300, 3, 32, 32\) and \(300, 1"):
        find_leaks(photographs, photographs[:, :1])
