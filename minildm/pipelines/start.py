"""Where a drawing starts: noise, a picture with some noise (SDEdit, Meng et al. 2022), or a picture
of which a part is painted anew (RePaint, Lugmayr et al. 2022). Chapters 11 and 14."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.diffusion.sampling import Constrain
from minildm.models.autoencoder import AutoencoderKL
from minildm.models.unet import UNet2DConditionModel
from minildm.schedulers.base import Scheduler


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


def starting_noise(
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    count: int,
    height: int | None = None,
    width: int | None = None,
    generator: torch.Generator | None = None,
    latents: Tensor | None = None,
) -> Tensor:
    """Standard normal (count, C, h, w) for images of height x width, or of the size trained on;
    `latents`, if given, after a check."""
    factor, size = vae.downscale_factor, unet.config.sample_size or 0
    if latents is not None:
        size = tuple(latents.shape[-2:])
    h, w = (size, size) if isinstance(size, int) else size
    tall: int = h * factor if height is None else height
    wide: int = w * factor if width is None else width
    if min(tall, wide) < 1 or tall % factor or wide % factor:
        got = f"{tall} x {wide}"
        raise ValueError(f"expected a height and a width that are multiples of {factor}, got {got}")
    shape = (count, unet.config.in_channels, tall // factor, wide // factor)
    if latents is None:
        # drawn where the generator is: the same noise whatever the model runs on
        device = generator.device if generator else "cpu"
        latents = torch.randn(shape, generator=generator, device=device)
    if latents.shape != shape:
        raise ValueError(f"expected latents of shape {shape}, got {tuple(latents.shape)}")
    return latents.to(unet.device, unet.dtype, memory_format=torch.channels_last)


def encode_image(
    vae: AutoencoderKL,
    count: int,
    image: Tensor,
    mask: Tensor | None,
    strength: float | None,
    generator: torch.Generator | None,
    dtype: torch.dtype,
) -> StartingImage:
    """What `image`, `mask` and `strength` of a pipeline's call amount to, checked."""
    if strength is None:
        strength = 0.8 if mask is None else 1.0
    if not 0 < strength <= 1:
        raise ValueError(f"expected a strength in (0, 1], got {strength:g}")
    if not isinstance(image, Tensor) or image.ndim != 4:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"expected an image as a tensor (N, C, height, width), got {got}")
    if len(image) not in (1, count):
        raise ValueError(f"expected 1 or {count} images, as many as are drawn, got {len(image)}")
    if not image.abs().max() <= 1.01:  # NaN neither
        got = f"one from {image.min():g} to {image.max():g}"
        raise ValueError(f"expected an image in [-1, 1], got {got}")
    image = image.to(vae.device, dtype, memory_format=torch.channels_last)
    latents = vae.encode(image).sample(generator) * vae.config.scaling_factor
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
