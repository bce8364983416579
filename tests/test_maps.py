"""Maps beside pictures, as files that Pillow wrote."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor
from torch.testing import assert_close

from minildm.data import (
    GROUND,
    MAP_COLOURS,
    check_maps,
    read_classes,
    read_map,
    read_maps,
    write_classes,
)

NUMBERS = np.arange(64).reshape(8, 8) % 11


def test_grey_levels_a_palette_and_the_colours_of_the_scenes_are_the_same_classes(tmp_path):
    Image.fromarray(NUMBERS.astype(np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(NUMBERS.astype(np.uint16)).save(tmp_path / "deep.png")
    write_classes(tmp_path / "palette.png", torch.tensor(NUMBERS))
    coloured = Image.open(tmp_path / "palette.png")
    assert coloured.mode == "P"
    coloured.convert("RGB").save(tmp_path / "colours.png")
    coloured.convert("RGBA").save(tmp_path / "clear.png")
    for name in ("grey", "deep", "palette", "colours", "clear"):
        np.testing.assert_array_equal(read_classes(tmp_path / f"{name}.png", 11), NUMBERS)
    assert coloured.convert("RGB").getpixel((2, 1)) == ImageColor.getrgb(MAP_COLOURS[GROUND])


def test_a_semantic_map_is_made_smaller_without_new_classes_and_keeps_its_middle(tmp_path):
    big = np.kron(NUMBERS, np.ones((4, 4), int))
    wide = np.pad(big, ((0, 0), (16, 16)), constant_values=10)
    Image.fromarray(wide.astype(np.uint8)).save(tmp_path / "wide.png")
    small = read_map(tmp_path / "wide.png", 8, classes=11)
    assert small.dtype == torch.int64
    assert_close(small, torch.tensor(NUMBERS))
    with pytest.raises(ValueError, match=r"wide.png: expected a square map, to be padded, got 64"):
        read_map(tmp_path / "wide.png", 8, classes=11, fit="pad")


def test_a_map_that_is_a_picture_has_three_channels_from_0_to_1(tmp_path):
    Image.fromarray(np.array([[0, 255], [51, 102]], np.uint8)).save(tmp_path / "edges.png")
    expected = torch.tensor([[0.0, 1.0], [0.2, 0.4]]).expand(3, 2, 2)
    assert_close(read_map(tmp_path / "edges.png", 2), expected, rtol=0, atol=1e-6)
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    red.save(tmp_path / "red.png")
    assert_close(read_map(tmp_path / "red.png", 2)[:, 0, 0], torch.tensor([1.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("picture", "classes", "words"),
    [
        (Image.new("L", (4, 4), 11), 11, "numbers of classes from 0 to 10, got 11"),
        (Image.new("L", (4, 4), 255), 3, "from 0 to 2, got 255"),
        (Image.new("RGB", (4, 4), (1, 2, 3)), 11, "the colours of 11 classes, .*, got #010203"),
        (Image.new("RGB", (4, 4)), 12, "in grey levels or with a palette, got mode RGB"),
        (Image.new("LA", (4, 4)), 11, "in grey levels or with a palette, got mode LA"),
    ],
)
def test_what_is_no_semantic_map_is_refused_by_name(tmp_path, picture, classes, words):
    picture.save(tmp_path / "x.map.png")
    with pytest.raises(ValueError, match=f"x.map.png: expected .*{words}") as error:
        read_classes(tmp_path / "x.map.png", classes)
    assert "\n" not in str(error.value)


def test_a_damaged_map_is_refused_by_name(tmp_path):
    (tmp_path / "x.map.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="x.map.png: expected a map, got no whole picture"):
        read_classes(tmp_path / "x.map.png", 11)
    with pytest.raises(ValueError, match="x.map.png: expected a picture"):
        read_map(tmp_path / "x.map.png", 8)


def test_maps_are_read_beside_their_pictures_upright_and_of_their_size(tmp_path):
    lying = Image.new("RGB", (6, 4))
    exif = lying.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    lying.save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    Image.new("L", (4, 6), 2).save(tmp_path / "a.map.png")
    Image.new("L", (4, 4), 1).save(tmp_path / "b.map.png")
    pictures = [tmp_path / "a.jpg", tmp_path / "b.png"]
    maps = read_maps(pictures, 2, classes=3)
    assert maps.shape == (2, 2, 2) and maps[0].unique() == 2 and maps[1].unique() == 1
    check_maps(tmp_path)

    Image.new("L", (6, 4)).save(tmp_path / "a.map.png")
    with pytest.raises(ValueError, match="a.map.png: expected a map of its .*, 4 x 6, got 6 x 4"):
        read_maps(pictures, 2, classes=3)
    (tmp_path / "b.map.png").unlink()
    with pytest.raises(ValueError, match="b.png: expected its map b.map.png beside it, got none"):
        read_maps(pictures[1:], 2)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(ValueError, match="a.map.png: expected the picture of this map beside it"):
        check_maps(tmp_path)
