"""Where does a pipeline break? Checks along the way from the pictures to a drawing, each with a
number to expect and a word of advice (Rombach et al. 2022 for the way; Karras et al. 2022,
section 5, for the network's scales). Chapter 20.

No check looks at a drawing, and none needs the training code: the true latents of a few pictures
are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minildm.diffusion.sampling import sample
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
from minildm.schedulers.base import Scheduler


class Finding(NamedTuple):
    """What one check measured, and where the number lies in a healthy pipeline."""

    check: str
    value: float
    low: float
    high: float
    advice: str

    @property
    def ok(self) -> bool:
        return self.low <= self.value <= self.high

    def __str__(self) -> str:
        verdict = "ok  " if self.ok else "FAIL"
        line = f"{verdict} {self.check:12}{self.value:9.3g}, expected {self.low:g} to {self.high:g}"
        return line if self.ok else f"{line}\n     {self.advice}"


def examine(
    pipeline: StableDiffusionPipeline, images: Tensor, prompts: Sequence[str], seed: int = 0
) -> dict[str, Finding]:
    """All checks in the order of the way, by name: the first that fails is the place to look.

    images: some of the training pictures, (N, C, H, W) in [-1, 1], N > 1; prompts: what each of
        them shows, N.
    """
    if len(images) != len(prompts) or len(images) < 2:
        raise ValueError(
            "expected two or more images and a prompt for each, "
            f"got {len(images)} and {len(prompts)}"
        )
    latents = encode(pipeline, images, seed)
    findings = [
        check_modes(pipeline.vae, pipeline.text_encoder, pipeline.unet),
        check_images(images),
        check_round_trip(pipeline, images, seed),
        check_latents(latents),
        *check_network(pipeline, latents, prompts, seed),
        check_guidance(pipeline, latents, prompts, seed),
        check_sampler(pipeline.scheduler, latents, seed),
        *check_walk(pipeline, prompts, seed),
    ]
    return {finding.check: finding for finding in findings}


# The pictures and the autoencoder


def check_modes(*models: nn.Module) -> Finding:
    """Modules in training mode: dropout drops, and batch normalisation looks at the batch."""
    training = sum(module.training for model in models for module in model.modules())
    advice = "modules are in training mode: call .eval() on the models before drawing"
    return Finding("modes", training, low=0, high=0, advice=advice)


def check_images(images: Tensor) -> Finding:
    """How far from the darkest to the brightest number in a batch of pictures: 2, if they are in
    [-1, 1]."""
    advice = (
        "pictures are expected in [-1, 1]: those in [0, 1] need 2·x - 1, "
        "those in 0 … 255 need x/127.5 - 1"
    )
    reach = float(images.max() - images.min())
    return Finding("images", reach, low=1.5, high=2.02, advice=advice)


@torch.no_grad()
def encode(pipeline: StableDiffusionPipeline, images: Tensor, seed: int = 0) -> Tensor:
    """The latents that the diffusion knows, by the pipeline's own way in (that of image-to-image).
    (N, C, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    start = pipeline.starting_image(len(images), images, None, None, generator)
    assert start is not None  # it is only where there is no image
    return start.latents


@torch.no_grad()
def check_round_trip(pipeline: StableDiffusionPipeline, images: Tensor, seed: int = 0) -> Finding:
    """Into the latent and out again, without any diffusion: the share of the pictures' variance
    that is lost."""
    error = (pipeline.decode(encode(pipeline, images, seed)) - images).square().mean()
    variance = (images - images.mean(0)).square().mean()
    advice = (
        "autoencoder: are the pictures in [-1, 1], the latents multiplied by scaling_factor, "
        "and divided again?"
    )
    return Finding("round trip", float(error / variance), low=0, high=0.2, advice=advice)


def check_latents(latents: Tensor) -> Finding:
    """The deviation of the latents that the diffusion works on; the schedules are made for 1.
    latents: (N, C, h, w)."""
    advice = (
        "the noise schedule expects latents of deviation 1: multiply them by 1/std, "
        "the vae's scaling_factor"
    )
    return Finding("latents", float(latents.std()), low=0.85, high=1.2, advice=advice)


# The network and the schedule


class Denoising(NamedTuple):
    """What one step makes of noised latents, at each timestep to visit: (S,) each."""

    timesteps: Tensor
    errors: Tensor
    """Of the predicted x0, as shares of the latents' variance."""
    blind: Tensor
    """Those of the best multiple of x_t, which needs no network: 1 - ᾱ_t for latents of variance
    1."""
    slopes: Tensor
    """By what the predicted x0 would have to be multiplied to come closest to the true ones. The
    expectation of x0 given anything at all has a slope of exactly 1, whatever the data (the
    orthogonality principle)."""


@torch.no_grad()
def denoise_once(
    pipeline: StableDiffusionPipeline,
    latents: Tensor,
    prompts: Sequence[str],
    seed: int = 0,
    steps: int = 10,
) -> Denoising:
    """True latents (N, C, h, w) noised to the timesteps to visit, x0 predicted from each in one
    step, unguided."""
    context = pipeline.encode_prompt(list(prompts), guidance=False)
    generator = torch.Generator().manual_seed(seed + 1)  # another noise than the one in the latents
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(steps)
    rows = []
    for t in scheduler.timesteps:
        x = scheduler.add_noise_at(latents, torch.randn(latents.shape, generator=generator), t)
        prediction = pipeline.predict(scheduler.scale_model_input(x, t), t, context, 1.0)
        x0 = scheduler.predict_x0(prediction, t, x)
        error = (x0 - latents).square().mean() / latents.var()
        blind = 1 - torch.corrcoef(torch.stack([x.flatten(), latents.flatten()]))[0, 1].square()
        slope = (x0 * latents).sum() / x0.square().sum()
        rows.append(torch.stack([error, blind, slope]))
    errors, blinds, slopes = torch.stack(rows, dim=1)
    return Denoising(scheduler.timesteps, errors=errors, blind=blinds, slopes=slopes)


def check_network(
    pipeline: StableDiffusionPipeline, latents: Tensor, prompts: Sequence[str], seed: int = 0
) -> list[Finding]:
    """Three findings of true latents (N, C, h, w), noised and denoised in one step: `schedule`,
    `calibration` and `prompts`, what the right prompts are worth: the error with each other's over
    that with their own, in noise."""
    own = denoise_once(pipeline, latents, prompts, seed)
    other = denoise_once(pipeline, latents, [*prompts[1:], prompts[0]], seed)
    # where all is noise, x0 is nearly 0 and so is every multiple of it
    clear = own.slopes[own.blind < 0.99]
    worst = clear[(clear - 1).abs().argmax()] if len(clear) else torch.tensor(torch.nan)
    noisy = own.blind >= own.blind.median()
    worth = other.errors[noisy].mean() / own.errors[noisy].mean()
    advice = {
        "schedule": "even the noisiest latents show x0: "
        "alphas_cumprod, or the scale of the latents?",
        "calibration": "x0 is not what the U-Net means: "
        "prediction_type, beta_schedule, timestep, scale_model_input?",
        "prompts": "the prompt does not help: "
        "is the text encoder trained, loaded, and fed by its own tokenizer?",
    }
    return [
        Finding("schedule", float(own.blind.max()), 0.9, 1, advice["schedule"]),
        Finding("calibration", float(worst), 0.9, 1.1, advice["calibration"]),
        Finding("prompts", float(worth), 1.15, float("inf"), advice["prompts"]),
    ]


@torch.no_grad()
def check_guidance(
    pipeline: StableDiffusionPipeline,
    latents: Tensor,
    prompts: Sequence[str],
    seed: int = 0,
    scale: float = 3.0,
) -> Finding:
    """How far the guided prediction went from the unconditional one, in steps to the conditional
    one: `scale`."""
    context = pipeline.encode_prompt(list(prompts))
    pipeline.scheduler.set_timesteps(10)
    t = pipeline.scheduler.timesteps[5]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    x = pipeline.scheduler.add_noise_at(latents, noise, t)
    x = pipeline.scheduler.scale_model_input(x, t)
    without, with_prompt = (pipeline.predict(x, t, half[None], 1.0) for half in context)
    towards = with_prompt - without
    gone = pipeline.predict(x, t, context, scale) - without
    share = float((gone * towards).sum() / towards.square().sum())
    advice = (
        "guidance is uncond + scale·(cond - uncond), "
        "with the negative prompt in the first half of the batch"
    )
    return Finding("guidance", share, low=0.98 * scale, high=1.02 * scale, advice=advice)


# The way from noise to a drawing


def check_sampler(scheduler: Scheduler, latents: Tensor, seed: int = 0, steps: int = 10) -> Finding:
    """The sampler alone, told the truth at every step: what it ends at is x0, whatever noise it
    began with.

    No network is asked. x0 is linear in a network's output, so two of those show which output says
    the true x0.
    """

    def truth(x: Tensor, t: Tensor) -> Tensor:
        x = x / scheduler.scale_model_input(torch.ones_like(x), t)  # back to the sampler's scale
        zero = scheduler.predict_x0(torch.zeros_like(x), t, x)
        one = scheduler.predict_x0(torch.ones_like(x), t, x)
        return (latents - zero) / (one - zero)

    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed + 1))
    x = sample(truth, scheduler, noise, steps)
    error = float((x - latents).std() / latents.std())
    advice = (
        "told the true x0, the sampler ends elsewhere: "
        "set_timesteps, the order and number of steps, clip_sample?"
    )
    return Finding("sampler", error, low=0, high=0.05, advice=advice)


class Walk(NamedTuple):
    """One drawing: what the U-Net was told and shown at each step, (S,), and where it ended,
    (N, C, h, w)."""

    timesteps: Tensor
    deviations: Tensor
    """Of the U-Net's input. Latents and noise both have 1, and so has every mixture of them."""
    latents: Tensor


@torch.no_grad()
def watch(pipeline: StableDiffusionPipeline, prompts: Sequence[str], seed: int = 0) -> Walk:
    """Draw the prompts with the pipeline's own steps and guidance, and listen at the U-Net's
    door."""
    steps, (scale, start) = pipeline.default("num_inference_steps"), pipeline.guidance()
    told, deviations = [], []

    def listen(unet: nn.Module, inputs: tuple) -> None:
        told.append(float(torch.as_tensor(inputs[1]).flatten()[0]))
        deviations.append(float(inputs[0].std()))

    context = pipeline.encode_prompt(list(prompts), guidance=scale > 1)
    noise = pipeline.starting_noise(len(prompts), generator=torch.Generator().manual_seed(seed))
    hook = pipeline.unet.register_forward_pre_hook(listen)
    try:
        latents = pipeline.denoise(noise, context, steps, scale, guidance_start=start)
    finally:
        hook.remove()
    return Walk(torch.tensor(told), torch.tensor(deviations), latents)


def check_walk(
    pipeline: StableDiffusionPipeline, prompts: Sequence[str], seed: int = 0
) -> list[Finding]:
    """Three findings of one drawing: `shown`, `order` and `result`."""
    told, deviations, latents = watch(pipeline, prompts, seed)
    worst = torch.maximum(deviations, 1 / deviations).max()
    rises = (told.diff() > 0).sum()
    advice = {
        "shown": "the U-Net's input has another scale: "
        "scale_model_input, or init_noise_sigma at the start?",
        "order": "the U-Net is told rising timesteps: "
        "the largest, which is the noisiest, comes first",
        "result": "drawn latents are narrower or wider than true ones: "
        "clipped, or guided too hard?",
    }
    return [
        Finding("shown", float(worst), 1, 1.35, advice["shown"]),
        Finding("order", int(rises), 0, 0, advice["order"]),
        Finding("result", float(latents.std()), 0.8, 1.25, advice["result"]),
    ]
