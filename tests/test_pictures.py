"""Files as Pillow writes them, read as people expect."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from minildm.data import read_picture, square, upright_size

RED, BLUE, CLEAR = (200, 0, 0), (0, 0, 250), (0, 255, 0, 0)


def pixel(picture, at=(0, 0)):
    return picture.getpixel(at)


def halves(left, right, mode="RGB", size=(40, 20)):
    picture = Image.new(mode, size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return picture


def test_colour_stays_colour_and_grey_becomes_one_channel(tmp_path):
    Image.new("RGB", (5, 4), RED).save(tmp_path / "red.png")
    Image.new("RGB", (5, 4), (7, 7, 7)).save(tmp_path / "grey.png")
    Image.new("L", (5, 4), 90).save(tmp_path / "l.jpg")
    red, grey, one = (read_picture(tmp_path / name) for name in ("red.png", "grey.png", "l.jpg"))
    assert (red.mode, red.size, pixel(red)) == ("RGB", (5, 4), RED)
    assert (grey.mode, pixel(grey)) == ("L", 7) and (one.mode, pixel(one)) == ("L", 90)


def test_a_camera_that_lay_on_its_side_is_stood_up(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    lying = halves(RED, BLUE, size=(64, 32))
    for name in ("a.jpg", "a.png", "a.webp", "a.tif"):
        lying.save(tmp_path / name, exif=exif)
        upright = read_picture(tmp_path / name)
        assert upright.size == upright_size(tmp_path / name) == (32, 64), name
        top, bottom = pixel(upright, (16, 5)), pixel(upright, (16, 58))
        assert top[0] > 150 > top[2] and bottom[2] > 150 > bottom[0], name


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.gif", "a.tif"])
@pytest.mark.parametrize(("background", "seen"), [("white", (255,) * 3), ("#0000fa", BLUE)])
def test_what_is_transparent_shows_the_background(tmp_path, name, background, seen):
    options = {"lossless": True} if name == "a.webp" else {}
    halves(CLEAR, (*RED, 255), "RGBA").save(tmp_path / name, **options)
    picture = read_picture(tmp_path / name, background)
    assert pixel(picture) == seen and pixel(picture, (30, 5)) == RED


def test_half_transparent_is_half_of_each(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "half.png")
    Image.new("LA", (4, 4), (0, 128)).save(tmp_path / "la.png")
    for name in ("half.png", "la.png"):
        picture = read_picture(tmp_path / name)
        assert picture.mode == "L" and pixel(picture) == pytest.approx(127, abs=1)
    assert pixel(read_picture(tmp_path / "la.png", "#640000")) == pytest.approx((50, 0, 0), abs=1)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    levels = np.array([[0, 256, 32768, 65535]], np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(levels).save(tmp_path / name)
        assert np.asarray(read_picture(tmp_path / name)).tolist() == [[0, 1, 128, 255]]
    Image.fromarray(levels.astype(np.int32)).save(tmp_path / "i.tif")
    assert np.asarray(read_picture(tmp_path / "i.tif")).tolist() == [[0, 1, 128, 255]]


def test_the_transparent_level_of_sixteen_bits_shows_the_background(tmp_path):
    levels = np.array([[0, 300, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png", transparency=300)
    assert np.asarray(read_picture(tmp_path / "a.png")).tolist() == [[0, 255, 255]]


def test_floats_are_from_0_to_1_and_others_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "good.tif")
    assert np.asarray(read_picture(tmp_path / "good.tif")).tolist() == [[0, 128, 255]]
    for name, level in (("high", 200.0), ("low", -1.0), ("nan", np.nan)):
        Image.fromarray(np.array([[0, level]], np.float32)).save(tmp_path / f"{name}.tif")
        with pytest.raises(ValueError, match=rf"{name}.tif: .*grey levels from .*, not 0 to 1"):
            read_picture(tmp_path / f"{name}.tif")


def test_palettes_and_one_bit_and_cmyk_are_seen_as_they_look(tmp_path):
    halves(RED, BLUE).quantize(2).save(tmp_path / "p.png")
    palette = read_picture(tmp_path / "p.png")
    assert (pixel(palette), pixel(palette, (30, 5))) == (RED, BLUE)
    clear = halves(RED, BLUE).quantize(2)
    clear.save(tmp_path / "clear.png", transparency=clear.getpixel((0, 0)))
    assert pixel(read_picture(tmp_path / "clear.png")) == (255, 255, 255)
    halves(0, 1, "1").save(tmp_path / "1.png")
    one = read_picture(tmp_path / "1.png")
    assert one.mode == "L" and (pixel(one), pixel(one, (30, 5))) == (0, 255)
    halves(RED, BLUE).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    cmyk = read_picture(tmp_path / "cmyk.jpg")
    assert pixel(cmyk) == pytest.approx(RED, abs=8)
    assert pixel(cmyk, (39, 5)) == pytest.approx(BLUE, abs=8)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, name):
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)
    options = {"lossless": True} if name == "a.webp" else {}
    first.save(tmp_path / name, save_all=True, append_images=[second], **options)
    assert pixel(read_picture(tmp_path / name)) == RED


def test_a_large_jpeg_is_read_smaller_but_not_too_small(tmp_path):
    halves(RED, BLUE, size=(800, 600)).save(tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg", at_least=100).size == (200, 150)
    assert read_picture(tmp_path / "a.jpg").size == (800, 600)


def content(format, **options):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("empty.png", b""),
        ("short.png", content("PNG")[:2000]),
        ("short.jpg", content("JPEG")[:1000]),
        ("short.webp", content("WEBP")[:1000]),
        ("short.gif", content("GIF")[:1000]),
        ("short.tif", content("TIFF")[:1000]),
        ("header.png", content("PNG")[:20]),
        ("text.jpg", b"this is no picture"),
        ("page.png", b"<!DOCTYPE html><html>404</html>"),
        ("flipped.png", content("PNG").replace(b"IDAT", b"IDAX", 1)),
    ],
)
def test_a_damaged_or_foreign_file_is_one_line_that_names_it(tmp_path, name, held):
    (tmp_path / name).write_bytes(held)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=f"{name}: expected a picture, got: ") as caught:
            read_picture(tmp_path / name)
    assert "\n" not in str(caught.value)
    if len(held) < 100:  # without even a header
        what = {0: "an empty file"}.get(len(held), "")
        with pytest.raises(ValueError, match=f"{name}: expected a picture, got: {what}"):
            upright_size(tmp_path / name)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(ValueError, match=r"no.png: expected a picture, got: No such file"):
        read_picture(tmp_path / "no.png")


def test_crop_keeps_the_middle_and_pad_all_of_it():
    wide = Image.new("RGB", (300, 100), RED)
    wide.paste(BLUE, (100, 0, 200, 100))
    cropped = np.asarray(square(wide, 32))
    assert cropped.shape == (32, 32, 3) and (cropped[:, 3:-3] == BLUE).all()
    padded = np.asarray(square(wide, 33, "pad"))
    assert (padded[:11] == 255).all() and (padded[22:] == 255).all()
    middle = padded[16]
    assert (middle[:8] == RED).all() and (middle[14:19] == BLUE).all()
    assert (np.asarray(square(wide, 33, "pad", "#0000fa"))[0] == BLUE).all()
    tall = square(wide.transpose(Image.Transpose.ROTATE_90), 33, "pad")
    assert (np.asarray(tall) == padded.transpose(1, 0, 2)).mean() > 0.9


def test_pad_keeps_grey_grey_but_for_a_coloured_background():
    tall = Image.new("L", (10, 40), 0)
    assert square(tall, 8, "pad").mode == square(tall, 8).mode == "L"
    assert square(tall, 8, "pad", "#0000fa").mode == "RGB"


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (33, 31)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_any_shape_becomes_a_square(shape, fit):
    assert square(Image.new("L", shape, 9), 32, fit).size == (32, 32)


def test_what_cannot_be_asked_for_is_said():
    grey = Image.new("L", (4, 4))
    with pytest.raises(ValueError, match="fit of crop or pad and a size of 1 or more, got 'fill'"):
        square(grey, 32, "fill")
    with pytest.raises(ValueError, match="got 'crop', 0"):
        square(grey, 0)
    for name in ("nocolour", "#00000080", ""):
        with pytest.raises(ValueError, match=f"an opaque colour such as white .*got '{name}'"):
            square(grey, 32, "pad", name)
