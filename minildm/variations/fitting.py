"""Pictures and maps of one's own, as a trained model reads them: its size, channels and frame.
Chapter 18."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minildm.data.images import from_pixels
from minildm.data.picture_cache import Pictures
from minildm.data.pictures import read_picture, square
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline

GREYNESS = (0.299, 0.587, 0.114)  # how bright red, green and blue look


def full_size(pipeline: StableDiffusionPipeline) -> int:
    """The side of the pictures that the autoencoder reads."""
    side = pipeline.unet.config.sample_size
    if not isinstance(side, int):
        raise ValueError(f"expected a model of square pictures, got a sample_size of {side}")
    return side * pipeline.vae.downscale_factor


def picture_size(pipeline: StableDiffusionPipeline) -> int:
    """The side of its pictures: what is beyond, up to `full_size`, is a frame that is cut off."""
    return pipeline.card.get("image_size") or full_size(pipeline)


def framed(pipeline: StableDiffusionPipeline, images: Tensor, value: float = 0) -> Tensor:
    """(…, picture_size, picture_size) -> (…, full_size, full_size), with a frame of `value`."""
    missing = full_size(pipeline) - images.shape[-1]
    before = missing // 2
    return F.pad(images, (before, missing - before) * 2, value=value) if missing else images


def fitted(pipeline: StableDiffusionPipeline, images: Tensor | Pictures) -> Tensor | Pictures:
    """Pictures (N, 1 or 3, picture_size, picture_size) in [-1, 1] with the model's channels and
    frame; those on a disk stay there if nothing is to be done."""
    channels = pipeline.vae.config.in_channels
    if images.shape[1] == channels and images.shape[-1] == full_size(pipeline):
        return images
    loaded = images[:]
    if loaded.shape[1] > channels:
        weights = torch.tensor(GREYNESS, device=loaded.device)[:, None, None]
        loaded = (loaded * weights).sum(1, keepdim=True)
    return framed(pipeline, loaded.expand(-1, channels, -1, -1), -1.0)


def read_image(
    pipeline: StableDiffusionPipeline, file: Path, fit: str = "crop", background: str = "white"
) -> Tensor:
    """A picture's file as the model's own pictures are, (1, C, full_size, full_size)."""
    size = picture_size(pipeline)
    picture = square(read_picture(file, background, size), size, fit, background)
    return torch.as_tensor(fitted(pipeline, from_pixels(np.array(picture)[None])))


def read_mask(
    pipeline: StableDiffusionPipeline, file: Path, image: Path, fit: str = "crop"
) -> Tensor:
    """The mask of a picture's file, (1, 1, full_size, full_size): 1 where it is rather white than
    black.

    One of another size than the picture, or without white, is a ValueError that names it.
    """
    mask, of = read_picture(file, "black"), read_picture(image)
    if mask.size != of.size:
        pair = f"{of.width} x {of.height}, got {mask.width} x {mask.height}"
        raise ValueError(f"{file}: expected a mask of its picture's size, {pair}")
    small = square(mask.convert("L"), picture_size(pipeline), fit, "black")
    white = framed(pipeline, torch.as_tensor(np.asarray(small) >= 128)[None, None].float())
    latent = full_size(pipeline) // pipeline.vae.downscale_factor
    if not F.interpolate(white, latent).any():  # as the pipeline makes it as small as its latents
        raise ValueError(f"{file}: expected a mask with white where to paint anew, got too little")
    return white
