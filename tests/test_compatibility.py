"""Mistakes that are certain are refused, with what was expected and what came; what is legitimate
passes."""

import pytest
import torch

from minildm import StableDiffusionPipeline, mnist
from minildm.evaluation import Pixels
from minildm.schedulers import SAMPLERS, DDIMScheduler, EulerDiscreteScheduler
from minildm.training import autoencoder_batches, check_range, denoiser_batches, encode_dataset

pytest_plugins = ["tiny"]

IMAGES = mnist("test", size=32).images[:4]


def test_a_card_that_names_another_prediction_than_the_scheduler_reads_is_refused(unsaved):
    parts = (unsaved.vae, unsaved.text_encoder, unsaved.tokenizer, unsaved.unet)
    with pytest.raises(
        ValueError, match="U-Net's prediction_type 'v_prediction', got one for 'epsilon'"
    ):
        StableDiffusionPipeline(*parts, DDIMScheduler(), {"prediction_type": "v_prediction"})
    for card in ({"prediction_type": "epsilon"}, {}, None):
        StableDiffusionPipeline(*parts, DDIMScheduler(), card)


def test_guidance_below_zero_is_refused_and_names_what_steers_away(unsaved):
    with pytest.raises(ValueError, match="guidance_scale of 0 or more, got -1; negative_prompt"):
        unsaved("three", guidance_scale=-1.0, progress=False)


def test_an_image_in_bytes_is_refused_and_one_that_rounding_took_past_1_is_not(unsaved):
    with pytest.raises(ValueError, match=r"an image in \[-1, 1\], got one from 0 to 255"):
        unsaved("three", image=(IMAGES[:1] + 1) * 127.5, progress=False)
    unsaved("three", image=IMAGES[:1] * 1.001, num_inference_steps=2, progress=False)


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_latents_that_are_not_finite_are_not_decoded_to_black(unsaved, number):
    latents = torch.zeros(1, 4, 8, 8)
    unsaved.decode(latents)
    latents[0, 0, 0, 0] = number
    with pytest.raises(ValueError, match="finite latents"):
        unsaved.decode(latents)


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m"])
def test_a_step_after_the_last_asks_for_set_timesteps(name):
    scheduler, x = SAMPLERS[name](), torch.zeros(1, 1, 2, 2)
    scheduler.set_timesteps(3)
    for t in scheduler.timesteps:
        x = scheduler.step(x, t, x)
    with pytest.raises(ValueError, match="set_timesteps before another drawing"):
        scheduler.step(x, scheduler.timesteps[0], x)


def test_a_step_at_another_timestep_than_the_next_names_both():
    scheduler, x = EulerDiscreteScheduler(), torch.zeros(1, 1, 2, 2)
    scheduler.set_timesteps(3)
    scheduler.step(x, scheduler.timesteps[0], x)
    with pytest.raises(ValueError, match="timestep 499.5, which comes next, got 999"):
        scheduler.step(x, scheduler.timesteps[0], x)


@pytest.mark.parametrize(
    "wrong", [IMAGES / 2 + 0.5, (IMAGES + 1) * 127.5], ids=["0 to 1", "0 to 255"]
)
def test_a_data_set_in_another_range_is_refused_by_whatever_trains_an_autoencoder_or_asks_one(
    unsaved, wrong
):
    with pytest.raises(ValueError, match=r"expected images in \[-1, 1\], got them from 0 to"):
        encode_dataset(unsaved.vae, wrong, progress=False)
    with pytest.raises(ValueError, match=r"expected images in \[-1, 1\], got them from 0 to"):
        autoencoder_batches(wrong, (4, 8, 8), batch_size=2, seed=0)
    check_range(IMAGES)
    encode_dataset(
        Pixels(), 3 * IMAGES, progress=False
    )  # a space of one's own may have a range of its own


def test_latents_that_were_not_scaled_are_refused_by_what_trains_on_them():
    mean, std = torch.randn(8, 4, 2, 2), torch.full((8, 4, 2, 2), 0.1)
    ids = torch.zeros(1, 5, dtype=torch.long)
    options = {
        "caption_of": torch.zeros(8).long(),
        "caption_ids": [ids],
        "empty_ids": ids[0],
        "prompt_dropout": 0.1,
        "batch_size": 2,
        "seed": 0,
    }
    for factor in (5.5, 0.1):
        with pytest.raises(
            ValueError, match="scaled latents, of deviation about 1, got .*scaling_factor"
        ):
            denoiser_batches(factor * mean, factor * std, **options)
    denoiser_batches(mean, std, **options)
