"""minildm.diffusion.sampling: one loop, and everything that draws with it: from data that is one
Gaussian, whose denoiser is known exactly, every sampler draws its mean and its deviation."""

import numpy as np
import pytest
import torch
from tiny import tiny_pipeline
from torch import nn

from minildm.diffusion import GaussianDenoiser, sample
from minildm.evaluation import check_sampler, sample_by_label, sample_trajectory
from minildm.pipelines import StableDiffusionPipeline, StartingImage
from minildm.schedulers import SAMPLERS, SPACED_SAMPLERS
from minildm.variations import sample_concatenated, sample_with_context, sample_with_map

MEAN, STD = 0.3, 0.5
BELL = GaussianDenoiser(torch.tensor(MEAN), torch.tensor(STD**2))
COUNT = 8


def steps_for(scheduler):
    """Those that walk at random lose variance to every step that is not small, those of first order
    a little. They divide the training timesteps, as DDIM's stride has to."""
    if isinstance(scheduler, SAMPLERS["lcm"]):
        return 20
    return 500 if isinstance(scheduler, (SAMPLERS["ddpm"], SAMPLERS["euler_a"])) else 200


def scheduler_for(name):
    """As chapter 05 sets them up: trailing timesteps, which begin where there is only noise."""
    plain, rule = SPACED_SAMPLERS.get(name, (name, None))
    config = {
        "clip_sample": False,
        "timestep_spacing": "trailing",
        "skip_prk_steps": True,
        "prediction_type": "epsilon",
        "beta_start": 1e-4,
        "beta_end": 0.02,
    }
    if rule:
        config[f"use_{rule}_sigmas"] = True
    if plain == "lcm":  # asked, each time, for the end of the path; it is believed at once
        config |= {"prediction_type": "sample", "timestep_scaling": 1e6}
    return SAMPLERS[plain].from_config(config)


class Exact(nn.Module):
    """What the best network says of x_t, whatever it is told besides. `channels`: how many of its
    input are x_t."""

    def __init__(self, scheduler, channels=4):
        super().__init__()
        self.scheduler, self.channels = scheduler, channels

    def forward(self, x, t, *told):
        x = x[:, : self.channels]
        if type(self.scheduler) is SAMPLERS["lcm"]:
            return BELL.ode_solution(x, self.scheduler.alphas_cumprod[t], 1.0)
        return BELL.as_model(self.scheduler)(x, t)


class Plain(StableDiffusionPipeline):
    """A pipeline whose latents are its pictures."""

    def decode(self, latents):
        return latents


@pytest.fixture(scope="module")
def parts():
    made = tiny_pipeline()
    return {
        "vae": made.vae,
        "text_encoder": made.text_encoder,
        "tokenizer": made.tokenizer,
        "unet": made.unet,
    }


def pipeline_for(parts, scheduler):
    made = Plain(**parts, scheduler=SAMPLERS["ddim"]())
    made.scheduler, made.unet = scheduler, Exact(scheduler)
    return made


def noise(seed=0):
    return torch.randn(COUNT, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


def dice():
    torch.manual_seed(3)  # of the callers that take no generator
    return torch.Generator().manual_seed(1)


def by_loop(scheduler, parts):
    return sample(Exact(scheduler), scheduler, noise(), steps_for(scheduler), generator=dice())


def by_trajectory(scheduler, parts):
    dice()
    xts, x0s = sample_trajectory(Exact(scheduler), scheduler, noise(), steps_for(scheduler))
    assert len(xts) == len(x0s) == len(scheduler.timesteps) + 1
    return xts[-1]


def by_label(scheduler, parts):
    dice()
    labels = torch.zeros(COUNT, dtype=torch.long)
    return sample_by_label(
        Exact(scheduler), scheduler, noise(), labels, steps_for(scheduler), batch_size=5
    )


def by_concatenation(scheduler, parts):
    dice()
    return sample_concatenated(
        Exact(scheduler), scheduler, noise(), noise(5)[:, :3], steps_for(scheduler)
    )


def by_map(scheduler, parts):
    dice()
    made, text = pipeline_for(parts, scheduler), torch.zeros(COUNT, 5, 12)
    return sample_with_map(
        made,
        made.unet,
        noise(),
        noise(5)[:, :3],
        text,
        text[0],
        num_inference_steps=steps_for(scheduler),
    )


def by_context(scheduler, parts):
    dice()
    made, numbers = pipeline_for(parts, scheduler), torch.zeros(COUNT, 5)
    reader = nn.Unflatten(1, (5, 1))
    return sample_with_context(
        made,
        made.unet,
        reader,
        numbers,
        numbers[0],
        noise(),
        num_inference_steps=steps_for(scheduler),
    )


def by_pipeline(scheduler, parts):
    made = pipeline_for(parts, scheduler)
    context = torch.zeros(2, COUNT, 5, 12)
    return made.denoise(
        noise(), context, steps_for(scheduler), 3.0, generator=dice(), guidance_start=0.3
    )


CALLERS = [
    by_loop, by_trajectory, by_label, by_concatenation, by_map, by_context, by_pipeline
]  # fmt: skip


@pytest.mark.parametrize("name", [*SAMPLERS, *SPACED_SAMPLERS])
@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.__name__)
def test_every_sampler_draws_the_gaussians_mean_and_deviation(caller, name, parts):
    drawn = caller(scheduler_for(name), parts)
    assert drawn.shape == noise().shape
    assert abs(float(drawn.mean()) - MEAN) < 0.02, (float(drawn.mean()), float(drawn.std()))
    assert abs(float(drawn.std()) - STD) < 0.05 * STD, (float(drawn.mean()), float(drawn.std()))


@pytest.mark.parametrize("name", sorted({*SAMPLERS, *SPACED_SAMPLERS} - {"lcm", "pndm"}))
@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
def test_what_begins_with_the_gaussian_ends_with_it(name, strength, parts):
    """Image-to-image; LCM leaves the path at every step, and PNDM begun in the middle repeats one
    (in diffusers, too)."""
    scheduler = scheduler_for(name)
    made, context = pipeline_for(parts, scheduler), torch.zeros(1, COUNT, 5, 12)
    start = StartingImage(MEAN + STD * noise(7), strength, None)
    drawn = made.denoise(noise(), context, steps_for(scheduler), 1.0, generator=dice(), start=start)
    assert abs(float(drawn.mean()) - MEAN) < 0.02
    assert abs(float(drawn.std()) - STD) < 0.05 * STD


@pytest.mark.parametrize("name", [*SAMPLERS, *SPACED_SAMPLERS])
def test_with_a_mask_the_image_is_kept_and_the_rest_is_the_gaussian(name, parts):
    scheduler = scheduler_for(name)
    made, context = pipeline_for(parts, scheduler), torch.zeros(1, COUNT, 5, 12)
    mask = torch.zeros(COUNT, 1, 16, 16, dtype=torch.bool)
    mask[..., 8:] = True
    start = StartingImage(torch.full((COUNT, 4, 16, 16), 9.0), 1.0, mask)
    drawn = made.denoise(noise(), context, steps_for(scheduler), 1.0, generator=dice(), start=start)
    assert (drawn[..., :8] == 9).all()
    assert abs(float(drawn[..., 8:].mean()) - MEAN) < 0.03
    assert abs(float(drawn[..., 8:].std()) - STD) < 0.05 * STD


@pytest.mark.parametrize("name", sorted({*SAMPLERS, *SPACED_SAMPLERS} - {"ddpm", "euler_a", "lcm"}))
def test_told_the_truth_a_sampler_without_dice_ends_at_the_truth(name):
    assert check_sampler(scheduler_for(name), MEAN + STD * noise(7), steps=50).ok


@pytest.mark.parametrize("name", ["ddpm", "euler_a", "lcm"])
def test_the_noise_on_the_way_is_the_generators_alone(name):
    def drawn(elsewhere, own):
        torch.manual_seed(elsewhere)
        scheduler, dice = scheduler_for(name), torch.Generator().manual_seed(own)
        return sample(Exact(scheduler), scheduler, noise(), 4, generator=dice)

    assert torch.equal(drawn(1, 7), drawn(2, 7))
    assert not torch.equal(drawn(1, 7), drawn(1, 8))


def test_the_callback_sees_each_step_before_it_is_taken():
    scheduler, seen = scheduler_for("ddim"), []
    drawn = sample(
        Exact(scheduler), scheduler, noise(), 5, callback=lambda *step: seen.append(step)
    )
    assert [i for i, *_ in seen] == list(range(5))
    assert [int(t) for _, t, *_ in seen] == scheduler.timesteps.tolist()
    torch.testing.assert_close(seen[0][2], noise())
    torch.testing.assert_close(seen[-1][3], drawn)  # the last step of DDIM is its x0
    for _, t, x, x0 in seen:
        expected = BELL.predict_x0(x, scheduler.alphas_cumprod[t])
        torch.testing.assert_close(x0, expected, rtol=0, atol=1e-3)


def test_a_constraint_is_told_where_each_step_led():
    scheduler, told = scheduler_for("euler"), []

    def constrain(x, timestep):
        told.append(None if timestep is None else float(timestep))
        return torch.zeros_like(x) if timestep is None else x

    drawn = sample(Exact(scheduler), scheduler, noise(), 5, constrain=constrain)
    assert told == [*scheduler.timesteps[1:].tolist(), None] and not drawn.any()


SHAPE = (3, 1, 4, 4)


def begun(**options):
    scheduler = SAMPLERS["ddim"](timestep_spacing="trailing", clip_sample=False)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    return sample(lambda x, t: x, scheduler, noise, 4, **options)


@pytest.mark.parametrize("begin_index", [-1, 4, 10**30, 1.0, 0.5, None, True + 0.5, "1"])
def test_a_place_that_the_timesteps_have_not_is_refused(begin_index):
    with pytest.raises(ValueError, match="expected a begin_index from 0 to 3, got "):
        begun(x0=torch.zeros(SHAPE), begin_index=begin_index)


@pytest.mark.parametrize(
    "shape", [(1, 1, 4, 4), (2, 1, 4, 4), (3, 4, 4), (3, 1, 1, 1), (3, 2, 4, 4)]
)
def test_each_noise_begins_from_a_sample_of_its_own(shape):
    with pytest.raises(ValueError, match=r"expected x0 of the noise's shape \(3, 1, 4, 4\), got "):
        begun(x0=torch.zeros(shape), begin_index=2)


def test_without_a_sample_to_begin_from_there_is_only_the_first_place():
    with pytest.raises(ValueError, match="expected an x0 to begin from at index 2, got none"):
        begun(begin_index=2)
    assert torch.equal(begun(begin_index=np.int64(0)), begun())


def test_from_a_clean_sample_the_last_step_takes_away_what_was_added():
    """For a network that says the noise itself, DDIM's steps lead back to x0 from every place."""
    scheduler = SAMPLERS["ddim"](timestep_spacing="trailing", clip_sample=False)
    generator = torch.Generator().manual_seed(0)
    noise, x0 = torch.randn(2, *SHAPE, generator=generator)
    for place in (0, 1, np.int64(2), 3):
        got = sample(lambda x, t: noise, scheduler, noise, 4, x0=x0, begin_index=place)
        torch.testing.assert_close(got, x0, rtol=1e-4, atol=1e-4)
