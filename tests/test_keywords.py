"""What people write who come from diffusers does the same here, or is one line that says what to
write."""

import diffusers
import pytest
import torch
from torch.testing import assert_close

from minildm import (
    AutoencoderKL,
    CLIPTextModel,
    CLIPTokenizer,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from minildm.schedulers import SAMPLERS, DDIMScheduler

pytest_plugins = ["tiny"]

PARTS = {"vae": AutoencoderKL, "text_encoder": CLIPTextModel, "unet": UNet2DConditionModel}
LATENTS = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def same_state(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_subfolder_is_where_diffusers_looks(tiny, tiny_folder):
    for name, class_ in PARTS.items():
        assert same_state(class_.from_pretrained(tiny_folder, subfolder=name), getattr(tiny, name))
    tokenizer = CLIPTokenizer.from_pretrained(tiny_folder, subfolder="tokenizer")
    assert tokenizer.vocab == tiny.tokenizer.vocab
    scheduler = type(tiny.scheduler).from_pretrained(tiny_folder, subfolder="scheduler")
    assert scheduler.config == tiny.scheduler.config


@pytest.mark.parametrize("name", PARTS)
def test_torch_dtype_is_the_dtype(tiny_folder, name):
    for keyword in ("dtype", "torch_dtype"):
        model = PARTS[name].from_pretrained(tiny_folder / name, **{keyword: torch.float16})
        assert model.dtype == torch.float16
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder, **{keyword: torch.bfloat16})
        assert getattr(pipeline, name).dtype == torch.bfloat16


def test_a_variant_lies_beside_the_other_weights_as_diffusers_has_it(tiny, tiny_folder, tmp_path):
    tiny.save_pretrained(tmp_path, torch.float16, variant="fp16", safe_serialization=True)
    assert sorted(path.name for path in tmp_path.rglob("*.safetensors")) == [
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "model.fp16.safetensors",
    ]
    ours = StableDiffusionPipeline.from_pretrained(tmp_path, variant="fp16", use_safetensors=True)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path, variant="fp16")
    theirs.set_progress_bar_config(disable=True)
    options = {"latents": LATENTS, "num_inference_steps": 3, "guidance_scale": 2.0}
    expected = theirs("seven", output_type="pt", **options).images
    assert_close(ours("seven", progress=False, **options) / 2 + 0.5, expected, rtol=0, atol=1e-4)
    with pytest.raises(FileNotFoundError, match="diffusion_pytorch_model.safetensors: no such"):
        StableDiffusionPipeline.from_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path / "again", variant="ema")
    again = StableDiffusionPipeline.from_pretrained(tmp_path / "again", variant="ema")
    assert all(same_state(getattr(again, name), getattr(ours, name)) for name in PARTS)


def test_parts_that_are_given_take_the_place_of_the_folders(tiny, tiny_folder):
    scheduler = SAMPLERS["ddim"].from_config(tiny.scheduler.config)
    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny_folder, unet=tiny.unet, scheduler=scheduler, safety_checker=None
    )
    assert pipeline.unet is tiny.unet and isinstance(pipeline.scheduler, DDIMScheduler)
    with pytest.raises(ValueError, match="cross_attention_dim"):
        other = type(tiny.unet).from_config(tiny.unet.config, cross_attention_dim=8)
        StableDiffusionPipeline.from_pretrained(tiny_folder, unet=other)


def test_a_pipeline_goes_to_a_precision_as_diffusers_does(tiny, tiny_folder):
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    for place in ((torch.float64,), ("cpu", torch.bfloat16), ("cpu",)):
        assert tiny.to(*place) is tiny
        theirs.to(*place)
        for name in PARTS:
            ours, there = getattr(tiny, name), getattr(theirs, name)
            assert (ours.dtype, ours.device) == (there.dtype, there.device)
    assert tiny.to(dtype=torch.float32).unet.dtype == torch.float32


def test_the_distribution_that_encode_returns_is_also_its_latent_dist(tiny, tiny_folder):
    theirs = diffusers.AutoencoderKL.from_pretrained(tiny_folder, subfolder="vae")
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    got, expected = (
        model.encode(image).latent_dist.sample(seed)
        for model, seed in zip((tiny.vae, theirs), seeds, strict=True)
    )
    assert_close(got, expected)


TENSOR = "a tensor itself is returned: leave out .sample, .prev_sample, .images and .0., too"
SAFE = "expected no .*, got False; weights lie in safetensors files, never in pickles"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, folder: p("seven", return_dict=False), TENSOR),
        (lambda p, folder: p("seven", return_dict=True), TENSOR),
        (lambda p, folder: p("seven", output_type="pil"), "minildm.data.to_pixels"),
        (lambda p, folder: p("seven", mask_image=1), "expected no mask_image, got 1; write mask"),
        (lambda p, folder: p.unet(LATENTS, 5, None, return_dict=False), TENSOR),
        (lambda p, folder: p.vae(LATENTS, return_dict=False), TENSOR),
        (lambda p, folder: p.vae.encode(LATENTS, return_dict=False), TENSOR),
        (lambda p, folder: p.vae.decode(LATENTS, return_dict=False), TENSOR),
        (lambda p, folder: p.text_encoder(LATENTS, return_dict=False), TENSOR),
        (lambda p, folder: p.unet(LATENTS, 5, torch.zeros(16, 12)), r"itself, without \[0\]"),
        (lambda p, folder: p.scheduler.step(LATENTS[0], 801, LATENTS), r"without .sample or \[0\]"),
        (lambda p, folder: p.save_pretrained(folder, safe_serialization=False), SAFE),
        (lambda p, folder: p.unet.save_pretrained(folder, safe_serialization=False), SAFE),
        (lambda p, folder: p.from_pretrained(folder, use_safetensors=False), SAFE),
        (lambda p, folder: p.unet.from_pretrained(folder, use_safetensors=False), SAFE),
        (lambda p, folder: p.from_pretrained(folder, revision="fp16"), "nothing is fetched"),
        (lambda p, folder: p.from_pretrained(folder, safety_checker=p), "a picture needs none"),
        (lambda p, folder: p.from_pretrained(folder, dtype="float16"), "a floating-point dtype"),
        (lambda p, folder: p.save_pretrained(folder / "x", True), "floating-point dtype.*got True"),
        (lambda p, folder: p.save_pretrained(folder / "x", torch.int8), "a floating-point dtype"),
        (lambda p, folder: p.to(torch.int64), "a floating-point dtype, like torch.float16, got"),
    ],
)
def test_what_means_nothing_here_is_refused_in_one_line_that_says_what_to_write(
    tiny, tiny_folder, call, message
):
    with pytest.raises(ValueError, match=message) as error:
        call(tiny, tiny_folder)
    assert "\n" not in str(error.value)
    assert not (tiny_folder / "x").exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda p, folder: p("seven", guidence_scale=2.0),
        lambda p, folder: p("seven", 32, 32, 5, 7.5),
        lambda p, folder: p.encode_prompt("3", "cpu", 1, True),
        lambda p, folder: p.from_pretrained(folder, unett=1),
        lambda p, folder: p.unet.from_pretrained(folder, unett=1),
        lambda p, folder: p.scheduler.from_pretrained(folder, unett=1),
        lambda p, folder: p.save_pretrained(folder, unett=1),
    ],
)
def test_what_nobody_knows_is_a_type_error_as_everywhere(tiny, tiny_folder, call):
    with pytest.raises(TypeError, match="unexpected keyword argument '(guid|unett)|positional"):
        call(tiny, tiny_folder)
