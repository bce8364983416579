"""Where a drawing starts: noise, a picture with some noise (SDEdit, Meng et al. 2022), or a picture
of which a part is painted anew (RePaint, Lugmayr et al. 2022). Chapters 11 and 16."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from minildm.data.images import from_pixels
from minildm.diffusion.sampling import Constrain
from minildm.models.autoencoder import AutoencoderKL
from minildm.models.unet import UNet2DConditionModel
from minildm.schedulers.base import Scheduler

Generators = torch.Generator | Sequence[torch.Generator]
"""Of all pictures, or one for each."""

Latents = Tensor | np.ndarray

Pictures = Tensor | np.ndarray | Image.Image | Sequence[Image.Image]
"""(N, C, height, width) in [-1, 1], or bytes (N, height, width, C), or PIL's."""


class StartingImage(NamedTuple):
    """An image to begin from: its latents (N, C, h, w), how far from it to go, and where, bool
    (N, 1, h, w), or None for everywhere."""

    latents: Tensor
    strength: float
    mask: Tensor | None

    def rows(self, which: slice) -> StartingImage:
        mask = None if self.mask is None else self.mask[which]
        return StartingImage(self.latents[which], self.strength, mask)

    def begin_index(self, scheduler: Scheduler, num_inference_steps: int) -> int:
        """The place of the timesteps where the image comes in, noised."""
        steps = int(num_inference_steps * self.strength)
        if steps < 1:
            expected = f"at least one of the {num_inference_steps} steps"
            raise ValueError(f"expected a strength of {expected}, got {self.strength:g}")
        return (num_inference_steps - steps) * scheduler.order

    def keep(self, scheduler: Scheduler, noise: Tensor) -> Constrain | None:
        """Outside the mask the image, as noisy as the rest is after a step; None without a mask."""
        latents, mask = self.latents, self.mask
        if mask is None:
            return None

        def constrain(x: Tensor, timestep: Tensor | None) -> Tensor:
            if timestep is None:
                return torch.where(mask, x, latents)
            return torch.where(mask, x, scheduler.add_noise_at(latents, noise, timestep))

        return constrain


def drawing(
    unet: nn.Module, rows: slice, count: int, num_images_per_prompt: int
) -> AbstractContextManager[None]:
    """Tells a U-Net that holds something for each of `count` pictures, as `ControlledUNet` does,
    that these rows are drawn now."""
    told = getattr(unet, "drawing", None)
    return told(rows, count, num_images_per_prompt) if told else nullcontext()


def generators(generator: Generators | None, count: int) -> list[torch.Generator | None]:
    """The one generator of all `count` pictures, or one for each, after a check."""
    each: list[torch.Generator | None] = []
    each += generator if isinstance(generator, Sequence) else [generator]
    if generator is not None and not all(isinstance(one, torch.Generator) for one in each):
        kinds = ", ".join(sorted({type(one).__name__ for one in each}))
        raise ValueError(f"expected a torch.Generator, or one for each picture, got {kinds}")
    if isinstance(generator, Sequence) and len(each) != count:
        raise ValueError(
            f"expected one generator, or {count}, one for each picture, got {len(each)}"
        )
    return each


def as_images(image: Pictures, channels: int) -> Tensor:
    """Pictures as the autoencoder reads them, (N, channels, height, width) in [-1, 1]."""
    if isinstance(image, Tensor):
        return image
    return from_pixels(as_bytes("an image", image, {1: "L", 3: "RGB"}.get(channels, "RGB")))


def as_mask(mask: Pictures) -> Tensor:
    """1 where a mask is white, 0 where it is black, (N, 1, height, width)."""
    if isinstance(mask, Tensor):
        return mask
    if isinstance(mask, np.ndarray) and mask.dtype == bool:
        mask = np.where(mask, np.uint8(255), np.uint8(0))
    pixels = as_bytes("a mask", mask, "L")
    if pixels.max(initial=0) == 1:
        raise ValueError("expected a mask of bytes from 0 to 255, or of bool, got one from 0 to 1")
    return (from_pixels(pixels) >= 0).float()


def as_bytes(what: str, given: Pictures, mode: str) -> np.ndarray:
    """uint8 (N, height, width) or (N, height, width, C), of NumPy's or of PIL's pictures."""
    pictures = [given] if isinstance(given, Image.Image) else given
    if isinstance(pictures, np.ndarray):
        if pictures.dtype == np.uint8 and pictures.ndim >= 3:
            return pictures
        got = f"an array of {pictures.dtype} {pictures.shape}"
    elif isinstance(pictures, Sequence) and all(isinstance(one, Image.Image) for one in pictures):
        kinds = {f"{one.mode} {one.width} x {one.height}" for one in pictures}
        if len(kinds) == 1 and pictures[0].mode == mode:
            return np.stack([np.asarray(one) for one in pictures])
        got = f"pictures of {', '.join(sorted(kinds)) or 'none'} (write .convert({mode!r}))"
    else:
        got = type(given).__name__
    raise ValueError(
        f"expected {what} as a tensor (N, C, height, width), as bytes (N, height, width, C) or as "
        f"PIL pictures of mode {mode} and of one size, got {got}"
    )


def size_of(image: Tensor, height: int | None, width: int | None) -> tuple[int, int]:
    """The image's height and width, in which it is drawn; ValueError if others are asked for."""
    tall, wide = image.shape[-2:]
    if height not in (None, tall) or width not in (None, wide):
        expected = f"no height and width beside an image, or its {tall} x {wide}"
        raise ValueError(f"expected {expected}, got {height} x {width}")
    return tall, wide


def starting_noise(
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    count: int,
    height: int | None = None,
    width: int | None = None,
    generator: Generators | None = None,
    latents: Latents | None = None,
) -> Tensor:
    """Standard normal (count, C, h, w) for images of height x width, or of the size trained on;
    `latents`, if given, after a check."""
    factor, size = vae.downscale_factor, unet.config.sample_size or 0
    if latents is not None:
        latents = torch.as_tensor(latents) if isinstance(latents, np.ndarray) else latents
        if not isinstance(latents, Tensor) or not latents.is_floating_point():
            got = latents.dtype if isinstance(latents, Tensor) else type(latents).__name__
            raise ValueError(f"expected latents as a tensor of fractions (N, C, h, w), got {got}")
        size = tuple(latents.shape[-2:])
    h, w = (size, size) if isinstance(size, int) else size
    tall = h * factor if height is None else height
    wide = w * factor if width is None else width
    if not all(
        isinstance(n, Integral) and int(n) >= 1 and int(n) % factor == 0 for n in (tall, wide)
    ):
        got = f"{tall} x {wide}"
        raise ValueError(f"expected a height and a width that are multiples of {factor}, got {got}")
    shape = (count, unet.config.in_channels, tall // factor, wide // factor)
    if latents is None:
        each = generators(generator, count)
        rows = (count // len(each), *shape[1:])
        # drawn where the generator is: the same noise whatever the model runs on
        drawn = [
            torch.randn(rows, generator=one, device=one.device if one else "cpu") for one in each
        ]
        latents = torch.cat(drawn)
    if latents.shape != shape:
        raise ValueError(f"expected latents of shape {shape}, got {tuple(latents.shape)}")
    return latents.to(unet.device, unet.dtype, memory_format=torch.channels_last)


def encode_image(
    vae: AutoencoderKL,
    count: int,
    image: Tensor,
    mask: Tensor | None,
    strength: float | None,
    generator: Generators | None,
    dtype: torch.dtype,
) -> StartingImage:
    """What `image`, `mask` and `strength` of a pipeline's call amount to, checked."""
    if strength is None:
        strength = 0.8 if mask is None else 1.0
    if isinstance(strength, bool) or not (isinstance(strength, Real) and 0 < strength <= 1):
        raise ValueError(f"expected a strength in (0, 1], got {strength!r}")
    if not isinstance(image, Tensor) or image.ndim != 4:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"expected an image as a tensor (N, C, height, width), got {got}")
    if len(image) not in (1, count):
        raise ValueError(f"expected 1 or {count} images, as many as are drawn, got {len(image)}")
    if not image.is_floating_point() or not image.numel():
        got = f"{image.dtype} {tuple(image.shape)}"
        raise ValueError(f"expected an image of fractions in [-1, 1], got {got}")
    if not image.abs().max() <= 1.01:  # NaN neither
        got = f"one from {image.min():g} to {image.max():g}"
        raise ValueError(f"expected an image in [-1, 1], got {got}")
    image = image.to(vae.device, dtype, memory_format=torch.channels_last)
    each = generators(generator, count)
    parts = (image if len(each) == 1 else image.expand(count, -1, -1, -1)).chunk(len(each))
    encoded = [vae.encode(part).sample(one) for part, one in zip(parts, each, strict=True)]
    latents = torch.cat(encoded) * vae.config.scaling_factor
    if mask is not None:
        mask = mask_latents(mask, count, image, latents)
    return StartingImage(latents.expand(count, -1, -1, -1), strength, mask)


def mask_latents(mask: Tensor, count: int, image: Tensor, latents: Tensor) -> Tensor:
    """A mask of pictures, (1 or count, 1, H, W), as one of their latents, bool (count, 1, h, w)."""
    height, width = image.shape[2:]
    if mask.shape not in ((1, 1, height, width), (count, 1, height, width)):
        expected = f"(1 or {count}, 1, {height}, {width})"
        raise ValueError(f"expected a mask of shape {expected}, got {tuple(mask.shape)}")
    if not (mask.min() >= 0 and mask.max() <= 1):
        got = f"one from {mask.min().item():g} to {mask.max().item():g}"
        raise ValueError(f"expected a mask of 1 (paint anew) and 0 (keep), got {got}")
    small = F.interpolate(mask.float(), latents.shape[2:]).to(latents.device) >= 0.5
    return small.expand(count, -1, -1, -1)
