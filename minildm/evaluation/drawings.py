"""The drawings that a score is taken of, and what a reader must know in order to draw them again.
Chapter 12."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from minildm.data.datasets import from_pixels, to_pixels
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
from minildm.schedulers import sampler_name


def draw_as_saved(
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    num_inference_steps: int,
    guidance_scale: float,
    generator: torch.Generator,
    progress: bool = True,
    size: int | None = None,
    guidance_start: float = 0.0,
) -> tuple[Tensor, float]:
    """A picture of each prompt as it would be saved, in 8 bits at `size`: (N, C, size, size) in
    [-1, 1]; and the seconds that drawing them took, text and decoder included."""
    start = time.perf_counter()
    images = pipeline(
        prompts,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        guidance_start=guidance_start,
        generator=generator,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    return from_pixels(to_pixels(images, size)), seconds


def provenance(pipeline: StableDiffusionPipeline) -> dict[str, Any]:
    """Its sampler's name, its device, and the parameters of each network."""
    networks = {"unet": pipeline.unet, "vae": pipeline.vae, "text_encoder": pipeline.text_encoder}
    return {
        "sampler": sampler_name(pipeline.scheduler),
        "device": str(pipeline.device),
        "parameters": {
            name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()
        },
    }


def footer(evaluation: Any, samples: str = "samples") -> list[str]:
    """Two lines under a table of scores. evaluation: has the fields of `provenance`, and seed,
    samples, steps, guidance and seconds."""
    start = (
        f" from {evaluation.guidance_start:.0%} of the steps on"
        if evaluation.guidance_start
        else ""
    )
    counts = ", ".join(f"{name} {count:,}" for name, count in evaluation.parameters.items())
    return [
        f"{evaluation.samples} {samples}, seed {evaluation.seed}: {evaluation.num_inference_steps} steps of "
        f"{evaluation.sampler}, guidance {evaluation.guidance_scale:g}{start}, {evaluation.seconds:.1f} s on "
        f"{evaluation.device}",
        f"{sum(evaluation.parameters.values()):,} parameters ({counts})",
    ]
