"""What `minildm sample` adds to a model and begins from, beside diffusers, and what it refuses."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from test_cli import one_line, run

from minildm.data import MAP_COLOURS, to_pixels, write_classes
from minildm.files import write_checksums
from minildm.pipelines import StableDiffusionPipeline
from minildm.testing import randomise_
from minildm.variations import (
    ControlledUNet,
    ControlNetModel,
    LoRA,
    load_word,
    save_word,
    with_word,
)

pytest_plugins = ["tiny"]

PROMPTS = ["a handwritten <heart>", "the digit 3"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Files without a folder land here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def learned(tiny_folder):
    """Two LoRAs, a word, a ControlNet of pictures and one of two classes, and a map for each, with
    random numbers."""
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder)
    for seed in (0, 1):
        lora = LoRA(pipeline.unet, pipeline.text_encoder, rank=2)
        randomise_(lora, torch.Generator().manual_seed(seed)).save_pretrained(f"{seed}.safetensors")
        lora.remove()
    save_word(
        "w.safetensors", "<heart>", torch.randn(12, generator=torch.Generator().manual_seed(2))
    )
    for planes in (2, 3):
        controlnet = ControlNetModel.from_unet(pipeline.unet, (4, 6, 8), planes)
        randomise_(controlnet, torch.Generator().manual_seed(3)).save_pretrained(f"c{planes}")
    pixels = np.random.default_rng(0).integers(0, 255, (56, 56), np.uint8)
    Image.fromarray(pixels).save("picture.png")
    Image.fromarray(np.uint8(pixels > 128)).save("classes.png")


def shown_as(planes):
    """The map that a ControlNet of so many planes is shown, (planes, 32, 32): in a frame, as the
    model's pictures are."""
    if planes == 3:
        small = Image.open("picture.png").resize((28, 28), Image.Resampling.LANCZOS)
        shown = torch.tensor(np.asarray(small) / 255).expand(3, -1, -1)
        return torch.nn.functional.pad(shown.float(), (2,) * 4)
    small = Image.open("classes.png").resize((28, 28), Image.Resampling.NEAREST)
    second = torch.nn.functional.pad(torch.tensor(np.asarray(small)), (2,) * 4).float()
    return torch.stack([1 - second, second])


def drawn(folder, *options, prompts=PROMPTS):
    """What `minildm sample` draws of the prompts, as numbers from 0 to 255."""
    result = run("sample", *prompts, "--model", folder, "--seed", 5, "--npz", "s.npz", *options)
    assert result.exit_code == 0, result.output
    with np.load("s.npz") as saved:
        return saved["images"].astype(np.float32)


def drawn_by(theirs, ours, prompts=PROMPTS, **options):
    """The same by diffusers' pipeline, from the same noise."""
    theirs.set_progress_bar_config(disable=True)
    latents = ours.starting_noise(len(prompts), generator=torch.Generator().manual_seed(5))
    images = theirs(
        prompts,
        height=32,
        width=32,
        num_inference_steps=3,
        guidance_scale=2.0,
        latents=latents,
        output_type="np",
        **options,
    ).images
    return 255 * images.mean(3)[:, 2:30, 2:30]  # the autoencoder has one channel, cut to 28 x 28


def assert_same(ours, theirs):
    """Up to a thousandth, beside the rounding to whole numbers."""
    assert np.abs(ours - theirs).max() <= 0.5 + 255e-3


@pytest.mark.parametrize("strengths", [[1.0], [0.6], [0.6, 1.0]])
def test_loras_are_added_as_in_diffusers(tiny_folder, tiny, learned, strengths):
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    options, names = [], []
    for i, strength in enumerate(strengths):
        options += ["--lora", f"{i}.safetensors" + (f":{strength}" if strength != 1 else "")]
        names.append(f"lora_{i}")
        theirs.load_lora_weights(".", weight_name=f"{i}.safetensors", adapter_name=names[i])
    theirs.set_adapters(names, strengths)
    ours = drawn(tiny_folder, *options)
    assert np.abs(ours - drawn(tiny_folder)).max() > 5
    assert_same(ours, drawn_by(theirs, tiny))


def test_a_word_is_read_as_in_diffusers(tiny_folder, tiny, learned):
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    theirs.load_textual_inversion("w.safetensors")
    ours = drawn(tiny_folder, "--word", "w.safetensors")
    assert np.abs(ours - drawn(tiny_folder)).max() > 5
    assert_same(ours, drawn_by(theirs, tiny))
    result = run("sample", "seven", "--model", tiny_folder, "--word", "w.safetensors")
    assert result.exit_code == 0 and "no prompt has its word, <heart>" in result.stderr


@pytest.mark.parametrize(("planes", "file"), [(3, "picture.png"), (2, "classes.png")])
def test_a_map_is_shown_as_in_diffusers(tiny_folder, tiny, learned, planes, file):
    controlnet = diffusers.ControlNetModel.from_pretrained(f"c{planes}")
    parts = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder).components
    theirs = diffusers.StableDiffusionControlNetPipeline(**parts, controlnet=controlnet)
    ours = drawn(tiny_folder, "--control", file, "--controlnet", f"c{planes}")
    assert np.abs(ours - drawn(tiny_folder)).max() > 5
    shown = shown_as(planes)[None].expand(2, -1, -1, -1)
    assert_same(ours, drawn_by(theirs, tiny, image=shown))


# -------------------------------------------------------------------- pictures, masks, together


def test_sample_begins_from_a_picture_as_people_see_it(tiny_folder, tiny, tmp_path):
    """Lying in the file, half transparent, and larger than the model's pictures."""
    random = np.random.default_rng(1)
    upright = Image.fromarray(random.integers(0, 255, (56, 56), np.uint8))
    clear = Image.fromarray(
        np.where(np.arange(56) < 28, 0, 255).astype(np.uint8)[None].repeat(56, 0)
    )
    seen = Image.composite(upright, Image.new("L", (56, 56), 255), clear)
    stored = Image.merge("LA", (upright, clear)).transpose(Image.Transpose.ROTATE_90)
    exif = stored.getexif()
    exif[0x0112] = 6  # a viewer turns it back
    stored.save("photo.png", exif=exif)
    seen.save("seen.png")
    options = ("--strength", 0.7)
    one, other = (
        drawn(tiny_folder, "--image", name, *options) for name in ("photo.png", "seen.png")
    )
    np.testing.assert_array_equal(one, other)
    small = np.asarray(seen.resize((28, 28), Image.Resampling.LANCZOS), np.float32) / 127.5 - 1
    image = torch.nn.functional.pad(torch.tensor(small)[None, None], (2,) * 4, value=-1.0)
    expected = tiny(
        PROMPTS,
        image=image,
        strength=0.7,
        generator=torch.Generator().manual_seed(5),
        progress=False,
    )
    assert np.abs(one - to_pixels(expected, 28)).max() <= 1


def test_sample_paints_anew_where_the_mask_is_white(tiny_folder, tiny):
    Image.new("L", (56, 56), 40).save("photo.png")
    mask = Image.new("L", (56, 56), 0)
    mask.paste(255, (28, 0, 56, 56))
    mask.save("mask.png")
    images = drawn(tiny_folder, "--image", "photo.png", "--mask", "mask.png")
    white = torch.zeros(1, 1, 32, 32)
    white[..., 2:30, 16:30] = 1
    frame = torch.full((1, 1, 32, 32), -1.0)
    frame[..., 2:30, 2:30] = 40 / 127.5 - 1
    generator = torch.Generator().manual_seed(5)
    expected = tiny(PROMPTS, image=frame, mask=white, generator=generator, progress=False)
    assert np.abs(images - to_pixels(expected, 28)).max() <= 1


def test_everything_at_once_is_what_the_package_makes_of_it(tiny_folder, tiny, learned):
    Image.new("L", (56, 56), 200).save("photo.png")
    begun = ("--image", "photo.png", "--strength", 0.7)
    asked = ("--lora", "0.safetensors:0.5", "--word", "w.safetensors")
    asked += ("--control", "classes.png", "--controlnet", "c2")
    got = drawn(tiny_folder, *begun, *asked)
    taught = with_word(tiny, *load_word("w.safetensors"))
    LoRA.from_pretrained("0.safetensors", taught.unet, taught.text_encoder).set_strength(0.5)
    controlnet = ControlNetModel.from_pretrained("c2")
    taught.unet = ControlledUNet(taught.unet, controlnet, shown_as(2)[None])
    frame = torch.full((1, 1, 32, 32), -1.0)
    frame[..., 2:30, 2:30] = 200 / 127.5 - 1
    generator = torch.Generator().manual_seed(5)
    expected = taught(PROMPTS, image=frame, strength=0.7, generator=generator, progress=False)
    assert np.abs(got - to_pixels(expected, 28)).max() <= 1
    for i in range(0, len(asked), 2):  # and each of them matters
        if asked[i] in ("--lora", "--word"):
            assert np.abs(got - drawn(tiny_folder, *begun, *asked[:i], *asked[i + 2 :])).max() > 2
    assert np.abs(got - drawn(tiny_folder, *begun, *asked[:4])).max() > 2


def test_a_shipped_controlnet_is_the_default_of_its_model(weights, monkeypatch):
    unet = StableDiffusionPipeline.from_pretrained("mnist").unet
    ControlNetModel.from_unet(unet, (4, 6, 8), 11).save_pretrained(weights / "mnist-controlnet")
    files = sorted(path for path in weights.rglob("*") if path.is_file())
    names = [file.relative_to(weights).as_posix() for file in files if file.name != "SHA256SUMS"]
    write_checksums(weights, names)
    write_classes("map.png", torch.full((32, 32), 10))
    Image.new("RGB", (32, 32), MAP_COLOURS[10]).save("same.png")
    for name in ("map.png", "same.png"):
        assert run("sample", "seven", "--control", name).exit_code == 0
    Image.new("L", (32, 32), 11).save("bad.png")
    one_line(run("sample", "seven", "--control", "bad.png"), "bad.png", "from 0 to 10", "got 11")


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--mask m.png", ["expected --image with --mask"]),
        ("--strength 0.5", ["expected --image with --strength"]),
        ("--controlnet c", ["expected --control with --controlnet"]),
        ("--fit pad", ["expected --image or --control with --fit"]),
        ("--control m.png", ["expected --controlnet FOLDER with --control", "none is shipped"]),
        ("--control m.png --controlnet nowhere", ["nowhere"]),
        ("--image p.png --strength 1.5", ["strength in (0, 1]", "got 1.5"]),
        ("--image p.png --strength 0.1", ["at least one of the 3 steps", "got 0.1"]),
        ("--image p.png --steps 1", ["two steps or more with --image", "got 1"]),
        ("--image p.png --mask small.png", ["small.png", "of its picture's size, 28 x 28, got 8"]),
        ("--image p.png --mask black.png", ["black.png", "white where to paint anew"]),
        ("--image absent.png", ["absent.png"]),
        ("--image p.png --fit squash", ["crop or pad", "squash"]),
        ("--image p.png --background none", ["colour", "'none'"]),
        ("--lora absent.safetensors", ["minildm: absent.safetensors: no such file"]),
        ("--word absent.safetensors", ["minildm: absent.safetensors: no such file"]),
        ("--word two.safetensors", ["expected one word", "got a LoRA of 4 tensors"]),
        ("--lora p.png", ["p.png", "expected a whole safetensors file"]),
        ("--lora p.png:nan", ["expected a number behind the colon", "p.png:nan"]),
        ("--lora other.safetensors", ["other.safetensors", "for these networks", "(2, 5)"]),
        ("--lora two.safetensors", ["two.safetensors", "(it was trained for cats, not for "]),
        ("--word other.safetensors", ["other.safetensors", "expected one word"]),
        ("--word wide.safetensors", ["wide.safetensors", "shape (12,), got (9,)"]),
        ("--word w.safetensors --word w.safetensors", ["expected a new word, got '<heart>'"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_is_drawn(
    tiny_folder, tmp_path, monkeypatch, arguments, words
):
    Image.new("L", (28, 28), 99).save("p.png")
    Image.new("L", (28, 28), 255).save("m.png")
    Image.new("L", (8, 8), 255).save("small.png")
    Image.new("L", (28, 28), 0).save("black.png")
    save_file({"<heart>": torch.zeros(12)}, "w.safetensors")
    save_file({"<heart>": torch.zeros(9)}, "wide.safetensors")
    narrow = {
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight": (2, 5)
    }
    narrow |= {name.replace("_A", "_B"): (5, 2) for name in narrow}
    save_file({name: torch.zeros(shape) for name, shape in narrow.items()}, "other.safetensors")
    narrow |= {name.replace("to_q", "to_v"): shape for name, shape in narrow.items()}
    tensors = {name: torch.zeros(shape) for name, shape in narrow.items()}
    save_file(tensors, "two.safetensors", {"minildm": '{"unet": "another", "for": "cats"}'})
    monkeypatch.setattr(
        "minildm.models.UNet2DConditionModel.forward",
        lambda *_: pytest.fail("something was drawn"),
    )
    result = run("sample", "seven <heart>", "--model", tiny_folder, *arguments.split())
    assert result.exit_code == 2, (result.output, result.exception)
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("minildm: ") and all(word in line for word in words), line
    assert "Traceback" not in result.output
