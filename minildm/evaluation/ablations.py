"""Diffusion on small pictures, without text and without latents, and a U-Net that parts are taken
from (Ho et al. 2020; Ronneberger et al. 2015). Chapter 04.

The digits are 16 x 16 here: a network that draws them is trained in a minute, so that ten of them
can be compared.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.diffusion.sampling import sample
from minildm.models.resnet import Downsample2D
from minildm.models.unet import UNet2DModel
from minildm.schedulers.base import Scheduler
from minildm.schedulers.ddpm import DDPMScheduler
from minildm.training.batches import step_generator
from minildm.training.objectives import DenoisingLoss

# Drawing and measuring


def sample_trajectory(
    unet: nn.Module, scheduler: Scheduler, noise: Tensor, num_inference_steps: int
) -> tuple[Tensor, Tensor]:
    """Every x_t on the way from `noise` (N, C, H, W) to a picture, and the x_0 that the network
    expects at each.

    Returns xts and x0s, both (S + 1, N, C, H, W) for the S timesteps that the scheduler visits; the
    last of either is the picture.
    """
    xts: list[Tensor] = []
    x0s: list[Tensor] = []

    def keep(step: int, timestep: Tensor, xt: Tensor, x0: Tensor) -> None:
        xts.append(xt)
        x0s.append(x0)

    noise = noise.contiguous(memory_format=torch.channels_last)
    picture = sample(unet, scheduler, noise, num_inference_steps, callback=keep)
    return torch.stack([*xts, picture]), torch.stack([*x0s, picture])


@torch.no_grad()
def error_by_timestep(
    unet: UNet2DModel,
    scheduler: DDPMScheduler,
    images: Tensor,
    timesteps: Collection[int],
    seed: int = 0,
) -> Tensor:
    """Mean squared error of the prediction, per pixel, at each timestep: (len(timesteps),). Two
    networks that are asked with one seed see the same noise."""
    loss, errors = DenoisingLoss(unet, scheduler), []
    for t in timesteps:
        noise = torch.randn(images.shape, generator=step_generator(seed, "error", int(t)))
        errors.append(loss(images, noise, torch.full((len(images),), int(t))))
    return torch.stack(errors)


# Taking parts away


def cut_skips(unet: UNet2DModel, sizes: Collection[int]) -> UNet2DModel:
    """Let the way up see zeros instead of what the way down had where pictures are `sizes` wide;
    returns the U-Net.

    No parameter is taken away: the weights that read the skip are there and read nothing.
    """

    def cut(block: nn.Module, inputs: tuple) -> None:
        skips = inputs[1]  # one list for all blocks, each of which takes from its end
        skips[:] = [torch.zeros_like(skip) if skip.shape[-1] in sizes else skip for skip in skips]

    for block in unet.up_blocks:
        block.register_forward_pre_hook(cut)
    return unet


def forget_time(unet: UNet2DModel) -> UNet2DModel:
    """Let the time embedding see zeros whatever the timestep, all parameters kept; returns the
    U-Net."""

    def forget(layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        return torch.zeros_like(output)

    unet.time_proj.register_forward_hook(forget)
    return unet


def pool_instead(unet: UNet2DModel) -> UNet2DModel:
    """Halve by max-pooling, then convolve with the same 3 x 3 weights at stride 1; returns the
    U-Net."""

    def pool(layer: nn.Module, inputs: tuple) -> Tensor:
        return F.max_pool2d(inputs[0], 2)

    for layer in unet.modules():
        if isinstance(layer, Downsample2D):
            if layer.padding != 1:
                raise ValueError(f"expected a Downsample2D with padding 1, got {layer}")
            layer.conv.stride = (1, 1)
            layer.register_forward_pre_hook(pool)
    return unet
