"""Autoguidance: away from what a worse version of the model says to the same prompt (Karras et al.
2024). Chapter 15."""

from __future__ import annotations

import math
from numbers import Real
from typing import Self

import torch
from torch import Tensor

from minildm.diffusion.guidance import predict_guided, summed_scales
from minildm.pipelines.distilled import time_cond_proj_dim
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
from minildm.state_dicts import describe_mismatch

AUTOGUIDANCE = 1.5  # the command line's default; benchmarks/guidance.py has the curve


class AutoguidedPipeline(StableDiffusionPipeline):
    """A pipeline with a bad guide, which has learned the same less well: an early snapshot of its
    training, a smaller network, or both.

    >>> bad = StableDiffusionPipeline.from_pretrained("runs/mnist/snapshot")
    >>> AutoguidedPipeline(pipeline, bad, 1.5)("a handwritten seven", guidance_scale=1)

    Where the two differ the model has learned something, and the picture goes further that way.
    Classifier-free guidance, if its scale is above 1, is added; `guidance_start` is for both.

    autoguidance_scale: 1 or more; 1 asks the bad guide nothing
    """

    def __init__(
        self,
        pipeline: StableDiffusionPipeline,
        bad_guide: StableDiffusionPipeline,
        autoguidance_scale: float,
    ):
        check_autoguidance(autoguidance_scale)
        check_bad_guide(pipeline, bad_guide)
        vars(self).update(vars(pipeline), card=dict(pipeline.card))
        self.bad_guide = bad_guide
        self.autoguidance_scale = autoguidance_scale

    def to(
        self,
        device: torch.device | str | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Move both models; returns the pipeline."""
        self.bad_guide.to(device, dtype)
        return super().to(device, dtype)

    def encode_prompt(
        self,
        prompt: str | list[str],
        *,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        guidance: bool = True,
    ) -> Tensor:
        """(3, N, L, D): the prompts as the bad guide's text encoder reads them, then the negative
        prompts and the prompts; without classifier-free guidance not the negative ones, (2, …)."""
        told = super().encode_prompt(
            prompt,
            negative_prompt=negative_prompt,
            num_images_per_prompt=num_images_per_prompt,
            guidance=guidance,
        )
        if self.autoguidance_scale == 1:
            return told
        bad = self.bad_guide.encode_prompt(
            prompt, num_images_per_prompt=num_images_per_prompt, guidance=False
        )
        return torch.cat([bad, told])

    def predict(self, x: Tensor, t: Tensor, context: Tensor, guidance_scale: float) -> Tensor:
        """What the two U-Nets say together of x (N, C, h, w) at time t, ().

        context: the texts as `encode_prompt` gives them; (1, N, L, D): no guidance
        """
        if self.autoguidance_scale == 1 or len(context) == 1:
            return super().predict(x, t, context, guidance_scale)
        count = len(x)

        def both(samples: Tensor, t: Tensor, texts: Tensor) -> Tensor:
            bad = self.bad_guide.unet(samples[:count], t, texts[:count])
            return torch.cat([bad, self.unet(samples[count:], t, texts[count:])])

        scales = summed_scales([self.autoguidance_scale, guidance_scale])[: len(context) - 1]
        return predict_guided(both, x, t, context, scales=scales)


def check_autoguidance(scale: object) -> None:
    """ValueError unless the scale is a number that leads away from the bad guide."""
    if not (isinstance(scale, Real) and 1 <= float(scale) < math.inf):
        raise ValueError(f"expected an autoguidance_scale of 1 or more, got {scale!r}")


def check_bad_guide(pipeline: StableDiffusionPipeline, bad: StableDiffusionPipeline) -> None:
    """ValueError unless both predict the same thing, of the same latents and as long texts, and
    neither has a guidance in its weights."""
    for unet in (pipeline.unet, bad.unet):
        if (dim := time_cond_proj_dim(unet)) is not None:
            got = f"a distilled one (time_cond_proj_dim={dim})"
            raise ValueError(f"expected U-Nets without guidance in their weights, got {got}")
    for what, expected, got in (
        ("prediction_type", pipeline.scheduler.prediction_type, bad.scheduler.prediction_type),
        ("tokens", pipeline.tokenizer.model_max_length, bad.tokenizer.model_max_length),
        ("width of texts", *(p.text_encoder.config.hidden_size for p in (pipeline, bad))),
    ):
        if expected != got:
            raise ValueError(f"expected a bad guide of the same {what}, {expected}, got {got}")
    schedulers = (pipeline.scheduler, bad.scheduler)
    if pipeline.scheduler.prediction_type != "flow_prediction":  # whose paths are straight
        if not nearly_equal(*(scheduler.alphas_cumprod for scheduler in schedulers)):
            raise ValueError("expected a bad guide of the same noise schedule, got another")
    ours, theirs = pipeline.vae.state_dict(), bad.vae.state_dict()
    same = not describe_mismatch(ours, theirs) and all(
        nearly_equal(ours[name], theirs[name]) for name in ours
    )
    if not same:
        raise ValueError("expected a bad guide of the same autoencoder, got another")


def nearly_equal(a: Tensor, b: Tensor) -> bool:
    """The same numbers, even if some of them lay in half precision."""
    a, b = a.detach().float().cpu(), b.detach().float().cpu()
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0.01 * a.abs().max().item())
