"""What a drawing starts from, as people bring it: generators, PIL's and NumPy's pictures; diffusers
with the same."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

pytest_plugins = ["tiny"]

PROMPTS = ["a handwritten seven", "the digit 3"]
LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
OPTIONS = {"num_inference_steps": 5, "guidance_scale": 2.0}


def dice(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def theirs(folder, kind="StableDiffusionPipeline"):
    pipeline = getattr(diffusers, kind).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pictures(count=2, size=(32, 32)):
    """Bytes (N, height, width)."""
    return np.random.default_rng(0).integers(0, 256, (count, *size), dtype=np.uint8)


def as_tensor(pixels):
    return torch.as_tensor(pixels)[:, None] / 127.5 - 1


# ----------------------------------------------------------------------------------------------
# generators


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_a", "lcm"])
def test_with_a_generator_for_each_picture_diffusers_draws_the_same(tiny, tmp_path, sampler):
    tiny.use_sampler(sampler).save_pretrained(tmp_path)
    expected = theirs(tmp_path)(PROMPTS, generator=dice(3, 4), output_type="pt", **OPTIONS).images
    got = tiny(PROMPTS, generator=dice(3, 4), progress=False, **OPTIONS)
    assert_close(got / 2 + 0.5, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_so_it_does_from_an_image(tiny, tmp_path, count):
    tiny.use_sampler("euler_a").save_pretrained(tmp_path)
    images, options = as_tensor(pictures(count)), OPTIONS | {"strength": 0.7}
    there = theirs(tmp_path, "StableDiffusionImg2ImgPipeline")
    expected = there(PROMPTS, image=images, generator=dice(3, 4), output_type="pt", **options)
    got = tiny(PROMPTS, image=images, generator=dice(3, 4), progress=False, **options)
    assert_close(got / 2 + 0.5, expected.images, rtol=0, atol=1e-4)


def test_a_picture_with_its_own_generator_does_not_depend_on_the_others(tiny):
    tiny.use_sampler("euler_a")
    several = tiny(["seven"] * 2, num_images_per_prompt=2, generator=dice(1, 2, 3, 4), **OPTIONS)
    for i in range(4):
        alone = tiny("seven", generator=dice(1 + i)[0], **OPTIONS)
        assert_close(several[i : i + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (dice(1), "one generator, or 2, one for each picture, got 1"),
        (dice(1, 2, 3), "one generator, or 2, one for each picture, got 3"),
        (0, "a torch.Generator, or one for each picture, got int"),
        ([0, 1], "a torch.Generator, or one for each picture, got int"),
        ([None, None], "a torch.Generator, or one for each picture, got NoneType"),
    ],
)
def test_other_generators_are_refused(tiny, generator, message):
    for more in ({}, {"latents": LATENTS}, {"image": as_tensor(pictures())}):
        with pytest.raises(ValueError, match=message):
            tiny(PROMPTS, generator=generator, progress=False, **more)


# ----------------------------------------------------------------------------------------------
# pictures


def test_from_pil_pictures_diffusers_draws_the_same(tiny, tiny_folder):
    images = [Image.fromarray(pixels) for pixels in pictures()]
    options = OPTIONS | {"image": images, "strength": 0.7}
    there = theirs(tiny_folder, "StableDiffusionImg2ImgPipeline")
    expected = there(PROMPTS, generator=dice(0)[0], output_type="pt", **options).images
    got = tiny(PROMPTS, generator=dice(0)[0], progress=False, **options)
    assert_close(got / 2 + 0.5, expected, rtol=0, atol=1e-4)


def test_into_a_pil_picture_diffusers_paints_the_same(tiny, tiny_folder):
    mask = np.zeros((32, 32), np.uint8)
    mask[:, 16:], mask[:16, 20:] = 127, 128
    image, mask = Image.fromarray(pictures(1)[0]), Image.fromarray(mask)
    there = theirs(tiny_folder, "StableDiffusionInpaintPipeline")
    expected = there(
        PROMPTS[0],
        image=image,
        mask_image=mask,
        generator=dice(0)[0],
        height=32,
        width=32,
        strength=1.0,
        output_type="pt",
        **OPTIONS,
    ).images
    got = tiny(PROMPTS[0], image=image, mask=mask, generator=dice(0)[0], progress=False, **OPTIONS)
    assert_close(got / 2 + 0.5, expected, rtol=0, atol=1e-4)


def test_numpy_pil_and_tensors_are_the_same_pictures(tiny):
    pixels, painted = pictures(), pictures()[:, ::-1] > 99
    white = np.where(painted, np.uint8(255), np.uint8(0))
    tensors = {"image": as_tensor(pixels), "mask": torch.as_tensor(painted)[:, None].float()}
    forms = [
        {"image": pixels, "mask": painted},
        {"image": pixels[..., None], "mask": white},
        {
            "image": [Image.fromarray(one) for one in pixels],
            "mask": [Image.fromarray(one) for one in white],
        },
    ]

    def draw(form):
        return tiny(PROMPTS, generator=dice(0)[0], progress=False, **form)

    expected = draw(tensors)
    assert not torch.equal(expected, draw({"image": tensors["image"]}))
    assert all(torch.equal(draw(form), expected) for form in forms)
    assert torch.equal(
        draw({"image": Image.fromarray(pixels[0]), "mask": Image.fromarray(white[0])}),
        draw({"image": tensors["image"][:1], "mask": tensors["mask"][:1]}),
    )


def test_numpy_latents_are_the_same_latents(tiny):
    expected = tiny(PROMPTS, latents=LATENTS, progress=False)
    for latents in (LATENTS.numpy(), LATENTS.numpy().astype(np.float64)):
        assert torch.equal(tiny(PROMPTS, latents=latents, progress=False), expected)


RGB, GREY = Image.new("RGB", (32, 32)), Image.new("L", (32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": RGB}, r"mode L and of one size, got pictures of RGB 32 x 32 \(write .conv"),
        ({"image": Image.new("I;16", (32, 32))}, r"got pictures of I;16 32 x 32"),
        ({"image": [GREY, Image.new("L", (28, 32))]}, r"got pictures of L 28 x 32, L 32 x 32"),
        ({"image": [GREY, torch.zeros(1, 32, 32)]}, "an image as a tensor .*, got list"),
        ({"image": []}, "got pictures of none"),
        ({"image": "a.png"}, "an image as a tensor .*, got str"),
        ({"image": np.zeros((1, 32, 32, 1))}, r"as bytes .*, got an array of float64 \(1, 32, 32"),
        ({"image": pictures()[0]}, r"got an array of uint8 \(32, 32\)"),
        ({"image": GREY, "mask": RGB}, r"a mask as .* got pictures of RGB 32 x 32"),
        ({"image": GREY, "mask": np.ones((1, 32, 32))}, r"a mask as .* an array of float64"),
        ({"image": GREY, "mask": np.ones((1, 32, 32), np.uint8)}, "a mask of bytes from 0 to 255"),
        ({"image": GREY, "mask": np.ones((1, 16, 16), bool)}, "expected a mask of shape"),
        ({"latents": LATENTS.int()}, r"latents as a tensor of fractions .*, got torch.int32"),
        ({"latents": LATENTS.tolist()}, r"latents as a tensor of fractions .*, got list"),
        ({"latents": GREY}, r"latents as a tensor of fractions .*, got Image"),
        ({"image": GREY, "strength": "0.5"}, r"a strength in \(0, 1\], got '0.5'"),
    ],
)
def test_other_pictures_are_refused_in_one_line(tiny, options, message):
    with pytest.raises(ValueError, match=message) as error:
        tiny(PROMPTS, progress=False, **options)
    assert "\n" not in str(error.value)


def test_a_size_beside_an_image_is_the_images_or_refused(tiny):
    image = as_tensor(pictures())
    plain = tiny(PROMPTS, image=image, generator=dice(0)[0], progress=False)
    same = tiny(PROMPTS, 32, 32, image=image, generator=dice(0)[0], progress=False)
    assert torch.equal(plain, same)
    for sides in ({"height": 64}, {"width": 64}, {"height": 32, "width": 16}):
        with pytest.raises(ValueError, match="no height and width beside an image, or its 32 x 32"):
            tiny(PROMPTS, image=image, progress=False, **sides)


@pytest.mark.parametrize("height", [32.0, "32", torch.zeros(2), 0, -4, 33])
def test_a_height_is_a_whole_multiple_of_the_factor(tiny, height):
    with pytest.raises(ValueError, match="height and a width that are multiples of 4, got"):
        tiny("seven", height=height, progress=False)


def test_the_upper_left_pixel_of_a_patch_decides_whether_it_is_painted_anew(tiny):
    """Nearest sampling, as in diffusers' inpainting."""
    for row, column in ((8, 12), (8, 13), (10, 14), (11, 15)):
        mask = torch.zeros(1, 1, 32, 32)
        mask[..., row, column] = 1
        start = tiny.starting_image(1, as_tensor(pictures(1)), mask, None)
        there = torch.nn.functional.interpolate(mask, (8, 8)) >= 0.5
        assert torch.equal(start.mask, there)
        assert start.mask.nonzero().tolist() == ([[0, 0, 2, 3]] if (row, column) == (8, 12) else [])


def test_numpys_whole_numbers_count(tiny):
    expected = tiny(PROMPTS, latents=LATENTS, num_inference_steps=2, batch_size=1, progress=False)
    options = {"num_inference_steps": np.int64(2), "batch_size": np.int64(1)}
    sides = {"height": np.int64(32), "width": np.int64(32), "num_images_per_prompt": np.int64(1)}
    got = tiny(PROMPTS, latents=LATENTS, progress=False, **options, **sides)
    assert torch.equal(got, expected)
