"""Faults that learners meet, on purpose: each makes of a healthy pipeline one that is ill in one
place. Chapter 20.

A fault is an ordinary subclass with one method wrong, or one part exchanged for a wrong one: what
stands here is the mistake itself, as it stands in somebody's program.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from minildm.models.autoencoder import with_scaling_factor
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline, StartingImage
from minildm.schedulers.base import Scheduler
from minildm.schedulers.ddim import DDIMScheduler
from minildm.schedulers.euler import EulerDiscreteScheduler
from minildm.text.text_encoder import CLIPTextModel

Make = Callable[[StableDiffusionPipeline], StableDiffusionPipeline]
"""Makes of a healthy pipeline, which stays as it is, one with a fault."""


class Fault(NamedTuple):
    """What is wrong, how it is mended, and the checks of `diagnostics.examine` that it fails."""

    mistake: str
    cure: str
    alarms: frozenset[str]
    make: Make
    sampler: str = "ddim"


def with_fault(pipeline: StableDiffusionPipeline, name: str) -> StableDiffusionPipeline:
    """The same pipeline with the fault called `name`, under the sampler that it is found in; the
    one given stays healthy."""
    if name not in FAULTS:
        raise ValueError(f"expected a fault of {', '.join(FAULTS)}, got {name!r}")
    fault, copied = FAULTS[name], StableDiffusionPipeline.from_pipe(pipeline)
    return fault.make(copied.use_sampler(fault.sampler))


def with_unnamed_fault(pipeline: StableDiffusionPipeline, number: int) -> StableDiffusionPipeline:
    """The same pipeline with one of the faults, each number another one, in an order that gives
    nothing away."""
    names = sorted(FAULTS, key=lambda name: zlib.crc32(name.encode()))
    if not 0 <= number < len(names):
        raise ValueError(f"expected a number from 0 to {len(names) - 1}, got {number}")
    return with_fault(pipeline, names[number])


@torch.no_grad()
def with_larger_latents(
    pipeline: StableDiffusionPipeline, factor: float
) -> StableDiffusionPipeline:
    """The same pipeline, to the last picture, with an autoencoder whose latents are `factor` times
    as large: no loss on pictures can tell the two apart, and the scaling factor makes up for it."""
    vae = copy.deepcopy(pipeline.vae)
    before, after = vae.quant_conv, vae.post_quant_conv
    if not (isinstance(before, nn.Conv2d) and isinstance(after, nn.Conv2d)):
        raise ValueError("expected an autoencoder with quant_conv and post_quant_conv, got none")
    assert before.bias is not None  # AutoencoderKL makes it with one
    # the first half of quant_conv's channels are means; the second is log-variances
    means = vae.config.latent_channels
    before.weight[:means].mul_(factor)
    before.bias[:means].mul_(factor)
    before.bias[means:].add_(2 * torch.tensor(factor).log())
    after.weight.div_(factor)
    vae = with_scaling_factor(vae, vae.config.scaling_factor / factor)
    vae = vae.to(memory_format=torch.channels_last)
    return StableDiffusionPipeline.from_pipe(pipeline, vae=vae)


# The autoencoder


class DecodesUnscaled(StableDiffusionPipeline):
    """Gives the decoder what the diffusion drew, as it is."""

    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents).clamp(-1, 1)


class EncodesUnscaled(StableDiffusionPipeline):
    """Gives the diffusion what the encoder said, as it is."""

    def starting_image(self, *arguments: Any, **options: Any) -> StartingImage | None:
        start = super().starting_image(*arguments, **options)
        return start and start._replace(latents=start.latents / self.vae.config.scaling_factor)


class ImagesFromZeroToOne(StableDiffusionPipeline):
    """Gives the encoder pictures in [0, 1], as torchvision's ToTensor makes them."""

    def starting_image(
        self, count: int, image: Tensor | None, *arguments: Any, **options: Any
    ) -> StartingImage | None:
        halved = None if image is None else image / 2 + 0.5
        return super().starting_image(count, halved, *arguments, **options)


# The schedule and the network


def other_scheduler(**changes: Any) -> Make:
    """A fault that lies in the scheduler's configuration alone."""

    def make(pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
        scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, **changes)
        return StableDiffusionPipeline.from_pipe(pipeline, scheduler=scheduler)

    return make


def not_multiplied_up(pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """α_t where ᾱ_t, the product of all of them so far, belongs."""
    scheduler = copy.copy(pipeline.scheduler)
    scheduler.alphas_cumprod = scheduler.alphas
    return StableDiffusionPipeline.from_pipe(pipeline, scheduler=scheduler)


class TellsTheIndex(StableDiffusionPipeline):
    """Tells the U-Net how many steps it has taken, not the timestep it stands at."""

    def predict(self, x: Tensor, t: Tensor, context: Tensor, guidance_scale: float) -> Tensor:
        index = (self.scheduler.timesteps == t).nonzero()[0, 0]
        return super().predict(x, index, context, guidance_scale)


class DoesNotScaleTheInput(EulerDiscreteScheduler):
    """Shows the U-Net x₀ + σ·ε as it is, up to hundreds of times too large."""

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        return sample


class StartsTooQuietly(EulerDiscreteScheduler):
    """Starts from noise of deviation 1 where the sampler counts on σ of the first step."""

    @property
    def init_noise_sigma(self) -> Tensor:
        return torch.tensor(1.0)


def untrained_text(pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """A text encoder whose weights were never read: `load_state_dict(..., strict=False)` with names
    that do not fit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text_encoder = CLIPTextModel.from_config(pipeline.text_encoder.config)
    return StableDiffusionPipeline.from_pipe(pipeline, text_encoder=text_encoder.eval())


class GuidesAway(StableDiffusionPipeline):
    """Conditional and unconditional half in the wrong order: uncond + w·(uncond - cond)."""

    def predict(self, x: Tensor, t: Tensor, context: Tensor, guidance_scale: float) -> Tensor:
        turned = guidance_scale if len(context) == 1 else -guidance_scale
        return super().predict(x, t, context, turned)


# The walk


class Rising(DDIMScheduler):
    """Visits the timesteps from the clean end."""

    def visit(self, timesteps: np.ndarray, device: torch.device | str | None) -> None:
        super().visit(timesteps, device)
        self.timesteps = self.timesteps.flip(0)


class ShortStride(DDIMScheduler):
    """Makes every step as long as if all training timesteps were visited."""

    def visit(self, timesteps: np.ndarray, device: torch.device | str | None) -> None:
        super().visit(timesteps, device)
        self.stride = 1


class StopsEarly(DDIMScheduler):
    """Leaves the last three steps out."""

    def visit(self, timesteps: np.ndarray, device: torch.device | str | None) -> None:
        super().visit(timesteps, device)
        self.timesteps = self.timesteps[:-3]


def as_scheduler(kind: type[Scheduler]) -> Make:
    """A fault that is a subclass of a scheduler."""

    def make(pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
        scheduler = kind.from_config(pipeline.scheduler.config)
        return StableDiffusionPipeline.from_pipe(pipeline, scheduler=scheduler)

    return make


FAULTS = {
    "decodes unscaled": Fault(
        "the latent was not divided by scaling_factor before it was decoded",
        "vae.decode(latents / vae.config.scaling_factor)",
        frozenset({"round trip"}),
        DecodesUnscaled.from_pipe,
    ),
    "encodes unscaled": Fault(
        "the encoder's latent was not multiplied by scaling_factor before it was noised",
        "vae.encode(images).sample() * vae.config.scaling_factor",
        frozenset({"round trip", "latents", "schedule", "calibration", "prompts"}),
        EncodesUnscaled.from_pipe,
    ),
    "pictures in [0, 1]": Fault(
        "the autoencoder was given pictures in [0, 1]",
        "2 * images - 1",
        frozenset({"round trip", "latents", "calibration", "prompts"}),
        ImagesFromZeroToOne.from_pipe,
    ),
    "other schedule": Fault(
        "the sampler counts on the linear schedule, the network was trained on the cosine",
        "DDIMScheduler.from_config(the trained scheduler's config)",
        frozenset({"calibration"}),
        other_scheduler(beta_schedule="linear"),
    ),
    "alphas not multiplied up": Fault(
        "alphas stands where alphas_cumprod belongs",
        "alphas_cumprod = torch.cumprod(1 - betas, dim=0)",
        frozenset({"schedule", "prompts"}),
        not_multiplied_up,
    ),
    "v read as noise": Fault(
        "the network says v, the sampler reads it as epsilon",
        'prediction_type="v_prediction"',
        frozenset({"calibration", "prompts", "shown", "result"}),
        other_scheduler(prediction_type="epsilon"),
    ),
    "told the index": Fault(
        "the U-Net is told the number of the step, not the timestep",
        "unet(x, t, context) for t in scheduler.timesteps",
        frozenset({"calibration", "prompts", "order"}),
        TellsTheIndex.from_pipe,
    ),
    "input not scaled": Fault(
        "scale_model_input was forgotten",
        "x_in = scheduler.scale_model_input(x, t)",
        frozenset({"calibration", "prompts", "shown"}),
        as_scheduler(DoesNotScaleTheInput),
        "euler",
    ),
    "text never loaded": Fault(
        "the text encoder's weights were never read",
        "load_state_dict(weights, strict=True)",
        frozenset({"calibration", "prompts"}),
        untrained_text,
    ),
    "guided away": Fault(
        "the two halves of the batch are in the wrong order",
        "uncond + scale * (cond - uncond)",
        frozenset({"guidance"}),
        GuidesAway.from_pipe,
    ),
    "start too quiet": Fault(
        "the starting noise was not multiplied by init_noise_sigma",
        "x = noise * scheduler.init_noise_sigma",
        frozenset({"shown", "result"}),
        as_scheduler(StartsTooQuietly),
        "euler",
    ),
    "timesteps rising": Fault(
        "the timesteps are visited from the clean end",
        "for t in scheduler.timesteps, which fall",
        frozenset({"sampler", "order"}),
        as_scheduler(Rising),
    ),
    "stride too short": Fault(
        "each step goes back by one timestep, the next one is told a hundred less",
        "scheduler.set_timesteps(num_inference_steps)",
        frozenset({"sampler"}),
        as_scheduler(ShortStride),
    ),
    "stops early": Fault(
        "the last three steps are left out",
        "for t in scheduler.timesteps, all of them",
        frozenset({"sampler"}),
        as_scheduler(StopsEarly),
    ),
    "latents clipped": Fault(
        "clip_sample, made for pixels, keeps latents in [-1, 1]",
        "clip_sample=False",
        frozenset({"sampler", "shown", "result"}),
        other_scheduler(clip_sample=True),
    ),
}  # in the order of the way from the pictures to a drawing
