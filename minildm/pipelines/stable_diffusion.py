"""From a prompt to a picture: text encoder, denoising loop, decoder (Rombach et al. 2022), with
guidance (Ho & Salimans 2021). Chapters 00 and 11."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from minildm.configuration.keywords import check_foreign
from minildm.configuration.kinds import checked_count
from minildm.diffusion.guidance import predict_guided
from minildm.diffusion.sampling import Callback, sample
from minildm.pipelines.compatibility import check_guidance
from minildm.pipelines.diffusion_pipeline import DiffusionPipeline
from minildm.pipelines.distilled import time_cond_proj_dim, timestep_cond
from minildm.pipelines.prompts import encode_texts, pair_prompts
from minildm.pipelines.start import (
    Generators,
    Latents,
    Pictures,
    StartingImage,
    as_images,
    as_mask,
    drawing,
    encode_image,
    generators,
    size_of,
    starting_noise,
)

DEFAULTS = {"num_inference_steps": 50, "guidance_scale": 7.5, "guidance_start": 0.0}

GuidedPredict = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""x (N, C, h, w), t, context, guidance_scale -> a prediction; see the pipeline's `predict`."""


class StableDiffusionPipeline(DiffusionPipeline):
    """The parts of Stable Diffusion and the way through them. CompVis calls the whole
    `LatentDiffusion`."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        *,
        guidance_scale: float | None = None,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators | None = None,
        latents: Latents | None = None,
        image: Pictures | None = None,
        strength: float | None = None,
        mask: Pictures | None = None,
        guidance_start: float | None = None,
        callback: Callback | None = None,
        batch_size: int = 250,
        progress: bool = True,
        predict: GuidedPredict | None = None,
        **foreign: object,
    ) -> Tensor:
        """Images (N, C, height, width) in [-1, 1], N = prompts x num_images_per_prompt, those of
        one prompt together.

        height, width: multiples of the autoencoder's downscale factor; if not given, the image's,
            or the size trained on
        num_inference_steps, guidance_scale: if not given, the card's, or diffusers' 50 and 7.5;
            guidance_scale <= 1 means no guidance; a U-Net that has it in its weights is told it
        negative_prompt: what to steer away from, one text or one for each prompt; "" if not given
        generator: of all random numbers; or N of them, one for each picture, which are then drawn
            one at a time
        latents: the starting noise, standard normal, (N, latent_channels, height / factor, width /
            factor)
        image: (1 or N, C, height, width) in [-1, 1] to begin from (Meng et al. 2022), instead of
            from nothing but noise; or bytes (1 or N, height, width, C), or PIL pictures
        strength: how much of the way from noise is gone, in (0, 1], the rest of the image being
            kept; 0.8 if not given, or 1 with a mask
        mask: (1 or N, 1, height, width), 1 where to paint anew and 0 where to keep the image
            (Lugmayr et al. 2022), or as `image`, white where to paint; a latent pixel is painted
            anew if the upper left one of those it stands for is
        guidance_start: the part of the steps, in [0, 1), that go without guidance, before it begins
            (Kynkäänniemi et al. 2024); if not given, the card's, or 0 where a guidance_scale is
            given: then it is as in diffusers
        callback: is told at every step (step, timestep, latents before it, the x0 predicted from
            them)
        batch_size: how many are drawn at a time. The starting noise does not depend on it, since
            all of it is drawn first; what a stochastic sampler (ddpm) adds on the way does.
        predict: what to ask instead of the pipeline's own `predict`, to look on or to guide
            otherwise
        foreign: keywords of diffusers'; see `keywords.FOREIGN`
        """
        check_foreign("StableDiffusionPipeline", foreign)
        steps = self.default("num_inference_steps", num_inference_steps)
        scale, guidance_start = self.guidance(guidance_scale, guidance_start)
        steps = checked_count("num_inference_steps", steps)
        num_images_per_prompt = checked_count("num_images_per_prompt", num_images_per_prompt)
        batch_size = checked_count("batch_size", batch_size)
        check_guidance(scale, guidance_start)
        scale, guidance_start = float(scale), float(guidance_start)

        guided = scale > 1 and time_cond_proj_dim(self.unet) is None
        context = self.encode_prompt(
            prompt,
            negative_prompt=negative_prompt if guided else None,
            num_images_per_prompt=num_images_per_prompt,
            guidance=guided,
        )
        if image is not None:
            image = as_images(image, self.vae.config.in_channels)
            height, width = size_of(image, height, width)
        mask = None if mask is None else as_mask(mask)
        start = self.starting_image(context.shape[1], image, mask, strength, generator)
        noise = self.starting_noise(context.shape[1], height, width, generator, latents)
        self.scheduler.set_timesteps(steps)
        alone = isinstance(generator, Sequence)  # each picture has its own random numbers
        dice = generators(generator, context.shape[1])
        batch_size = 1 if alone else min(batch_size, len(noise))
        batches = list(zip(noise.split(batch_size), context.split(batch_size, dim=1), strict=True))
        images = []
        total = len(batches) * len(self.scheduler.timesteps)
        with tqdm(total=total, unit="step", disable=not progress) as bar:
            for i, (batch, its_context) in enumerate(batches):
                rows = slice(i * batch_size, (i + 1) * batch_size)
                with drawing(self.unet, rows, context.shape[1], num_images_per_prompt):
                    x0 = self.denoise(
                        batch,
                        its_context,
                        steps,
                        scale,
                        generator=dice[i if alone else 0],
                        start=start and start.rows(rows),
                        callback=callback,
                        bar=bar,
                        guidance_start=guidance_start,
                        predict=predict,
                    )
                images.append(self.decode(x0))
        return torch.cat(images)

    def denoise(
        self,
        noise: Tensor,
        context: Tensor,
        num_inference_steps: int,
        guidance_scale: float,
        generator: torch.Generator | None = None,
        start: StartingImage | None = None,
        callback: Callback | None = None,
        bar: tqdm | None = None,
        guidance_start: float = 0.0,
        predict: GuidedPredict | None = None,
    ) -> Tensor:
        """From noise (N, C, h, w) to clean latents of that shape: `sample` with the texts and the
        guidance bound. context: see `predict`."""
        self.scheduler.set_timesteps(num_inference_steps)
        unguided = int(guidance_start * len(self.scheduler.timesteps))
        x0, begin, constrain = None, 0, None
        if start is not None:
            if start.strength < 1 or start.mask is None:  # a mask keeps the image by itself
                begin = start.begin_index(self.scheduler, num_inference_steps)
                x0 = start.latents
            constrain = start.keep(self.scheduler, noise)
        ask, asked = predict or self.predict, itertools.count(begin)

        def bound(x: Tensor, t: Tensor) -> Tensor:
            told = context if next(asked) >= unguided else context[-1:]
            prediction = ask(x, t, told, guidance_scale)
            if bar is not None:
                bar.update()
            return prediction

        return sample(
            bound,
            self.scheduler,
            noise,
            num_inference_steps,
            x0=x0,
            begin_index=begin,
            constrain=constrain,
            generator=generator,
            callback=callback,
        )

    def predict(self, x: Tensor, t: Tensor, context: Tensor, guidance_scale: float) -> Tensor:
        """What the U-Net says, guided, of x (N, C, h, w) at time t.

        x: on the scale that the U-Net was trained on (`scale_model_input`)
        context: the texts, (2, N, L, D), without condition and with it, which are asked in one
            batch; (1, N, L, D): no guidance
        """
        scales = [guidance_scale] * (len(context) - 1)
        beside = timestep_cond(self.unet, self.scheduler, self.card, t, guidance_scale, len(x))
        told = self.unet if beside is None else partial(self.unet, timestep_cond=beside.to(x))
        return predict_guided(told, x, t, context, scales=scales)

    def encode_prompt(
        self,
        prompt: str | list[str],
        *,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        guidance: bool = True,
    ) -> Tensor:
        """(2, N, L, D): the negative prompts, then the prompts, each repeated; without guidance
        only these, (1, …)."""
        texts = pair_prompts(prompt, negative_prompt, guidance)
        return encode_texts(self.tokenizer, self.text_encoder, texts, num_images_per_prompt)

    def starting_image(
        self,
        count: int,
        image: Tensor | None,
        mask: Tensor | None,
        strength: float | None,
        generator: Generators | None = None,
    ) -> StartingImage | None:
        """What `image`, `mask` and `strength` of a call amount to, checked; None without image."""
        if image is None:
            if mask is not None or strength is not None:
                raise ValueError("expected an image with mask or strength, got none")
            return None
        dtype = self.unet.dtype
        return encode_image(self.vae, count, image, mask, strength, generator, dtype)

    def starting_noise(
        self,
        count: int,
        height: int | None = None,
        width: int | None = None,
        generator: Generators | None = None,
        latents: Latents | None = None,
    ) -> Tensor:
        """Standard normal (count, C, h, w) for images of height x width; `latents`, if given, after
        a check."""
        return starting_noise(self.vae, self.unet, count, height, width, generator, latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents of unit scale (N, C, h, w) -> images (N, C', f·h, f·w) in [-1, 1]."""
        self.check_finite("latents", latents)
        images = self.vae.decode(latents / self.vae.config.scaling_factor)
        self.check_finite("pictures of the autoencoder", images)
        return images.clamp(-1, 1)

    def check_finite(self, what: str, x: Tensor) -> None:
        """ValueError for NaN and infinity, with what may have made them: opened weights have
        none."""
        if not x.isfinite().all():
            half = x.dtype in (torch.float16, torch.bfloat16)
            why = "did half precision overflow? try float32" if half else "too large for float32"
            raise ValueError(f"expected finite {what}, got NaN or infinity: {why}")

    def default(self, name: str, given: Any = None) -> Any:
        """What is given, else what the card says, else diffusers' default."""
        return given if given is not None else self.card.get(name, DEFAULTS[name])

    def guidance(
        self, scale: float | None = None, start: float | None = None
    ) -> tuple[float, float]:
        """guidance_scale and guidance_start of a call that was given these: a scale alone is for
        all steps."""
        if start is None and scale is not None:
            start = 0.0
        return self.default("guidance_scale", scale), self.default("guidance_start", start)
