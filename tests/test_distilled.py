"""U-Nets that are told something beside the time, as diffusers tells it them."""

import diffusers
import pytest
import torch

from minildm.models import UNet2DConditionModel, get_guidance_scale_embedding
from minildm.pipelines import StableDiffusionPipeline
from minildm.schedulers import DPMSolverMultistepScheduler
from minildm.testing import randomise_

pytest_plugins = ["tiny"]

PROMPTS = ["a handwritten seven", "the digit 3"]


def starting_noise(count=2):
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def distilled(tiny):
    """The tiny pipeline with a U-Net that is told something beside the time."""
    unet = UNet2DConditionModel(**{**tiny.unet.config, "time_cond_proj_dim": 6})
    return StableDiffusionPipeline.from_pipe(tiny, unet=randomise_(unet).eval())


@pytest.mark.parametrize("dim", [6, 7, 256])
def test_a_number_beside_the_time_is_embedded_as_in_diffusers(dim):
    numbers = torch.tensor([0.0, 0.25, 1.0, 6.5])
    pipeline = diffusers.StableDiffusionPipeline
    expected = pipeline.get_guidance_scale_embedding(None, numbers, embedding_dim=dim)
    got = get_guidance_scale_embedding(numbers, dim)
    # angles of thousands of radians, in float32
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_diffusers_draws_the_same_with_guidance_in_the_weights(distilled, tmp_path, guidance):
    distilled.save_pretrained(tmp_path)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    theirs.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 5, "guidance_scale": guidance, "latents": starting_noise()}
    expected = torch.from_numpy(theirs(PROMPTS, output_type="np", **options).images)
    got = distilled(PROMPTS, progress=False, **options)
    assert got.std() > 0.1
    assert (got / 2 + 0.5 - expected.permute(0, 3, 1, 2)).abs().max() < 1e-4


def test_the_guidance_told_changes_the_picture(distilled):
    options = {"num_inference_steps": 2, "latents": starting_noise(), "progress": False}
    weak, strong = (distilled(PROMPTS, guidance_scale=w, **options) for w in (2.0, 8.0))
    assert (weak - strong).abs().max() > 0.01


@pytest.fixture
def average(distilled):
    """The same with a U-Net that is told how far a step goes."""
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "solver_order": 1}
    flow["steps_offset"] = 1  # which diffusers' pipeline insists on
    distilled.scheduler = DPMSolverMultistepScheduler(**flow)
    distilled.card = {"guidance_scale": 1.0, "num_inference_steps": 1, "timestep_cond": "interval"}
    return distilled


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_diffusers_draws_the_same_along_average_velocities(average, tmp_path, steps):
    average.save_pretrained(tmp_path)
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    theirs.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": steps, "latents": starting_noise()}
    told = 1 + 0.999 / steps  # its steps begin at 0.999, and are of one length
    expected = theirs(PROMPTS, guidance_scale=told, output_type="np", **options).images
    got = average(PROMPTS, progress=False, **options)
    assert got.std() > 0.1
    assert (got / 2 + 0.5 - torch.from_numpy(expected).permute(0, 3, 1, 2)).abs().max() < 1e-4


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "flow_euler"])
def test_each_step_is_told_how_far_it_goes(average, sampler):
    told = []
    unet = average.unet

    def spy(sample, timestep, context, timestep_cond):
        told.append(timestep_cond[0])
        return unet(sample, timestep, context, timestep_cond=timestep_cond)

    average.use_sampler(sampler)
    pipeline = StableDiffusionPipeline.from_pipe(average, unet=Called(unet, spy))
    pipeline(PROMPTS, num_inference_steps=3, latents=starting_noise(), progress=False)
    sigmas = pipeline.scheduler.sigmas
    expected = get_guidance_scale_embedding(sigmas[:-1] - sigmas[1:], 6)
    torch.testing.assert_close(torch.stack(told), expected)


class Called(torch.nn.Module):
    """Asks `ask` in the place of a U-Net."""

    def __init__(self, unet, ask):
        super().__init__()
        self.config, self.dtype, self.device, self.ask = unet.config, unet.dtype, unet.device, ask

    def forward(self, *args, **keywords):
        return self.ask(*args, **keywords)


def test_average_velocities_are_not_guided_and_not_stepped_along_a_curve(average):
    with pytest.raises(ValueError, match="expected no guidance_scale .* got 3"):
        average(PROMPTS, guidance_scale=3.0, progress=False)
    average.scheduler = DPMSolverMultistepScheduler(prediction_type="epsilon")
    with pytest.raises(ValueError, match="expected a scheduler of flow matching"):
        average(PROMPTS, progress=False)


def test_only_a_distilled_network_is_told_something_beside_the_time(tiny):
    with pytest.raises(ValueError, match="expected no timestep_cond"):
        context = torch.zeros(2, 3, 12)
        tiny.unet(starting_noise(), 5, context, timestep_cond=torch.zeros(2, 6))
