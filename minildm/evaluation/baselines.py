"""Diffusion in a space of one's choice, pixels or latents of any size, told which class to draw
(Rombach et al. 2022). Chapter 07.

A picture is the latent of an autoencoder that does nothing, so one loss, one sampler and one set of
batches serve both.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.configuration.kinds import checked_count
from minildm.diffusion.sampling import sample
from minildm.models.autoencoder import DiagonalGaussianDistribution
from minildm.schedulers.base import Scheduler


class Pixels(nn.Module):
    """The autoencoder that does nothing: its latent of a picture is the picture, for certain."""

    device = torch.device("cpu")

    def encode(self, x: Tensor) -> DiagonalGaussianDistribution:
        """x: (B, C, H, W) -> the bell around x that is as narrow as the class allows, deviation
        exp(-15)."""
        return DiagonalGaussianDistribution(torch.cat([x, torch.full_like(x, -torch.inf)], dim=1))

    def decode(self, z: Tensor) -> Tensor:
        return z


class BlockPCA(nn.Module):
    """The best linear autoencoder of blocks: each f x f block of a picture becomes its first
    principal components.

    It is computed, not trained. `factor` f and `channels` say how large the latent is,
    (B, channels, H/f, W/f); with as many channels as a block has numbers nothing is lost. Every
    channel of the latent has variance 1, or with `whiten=False` all of them together, so that wide
    components stay wider than narrow ones.
    """

    device = torch.device("cpu")

    def __init__(self, images: Tensor, factor: int, channels: int, whiten: bool = True):
        super().__init__()
        most = images.shape[1] * factor**2
        if not 1 <= channels <= most or images.shape[-1] % factor or images.shape[-2] % factor:
            raise ValueError(
                f"expected sides that are multiples of {factor} and 1 to {most} channels, "
                f"got {tuple(images.shape)} and {channels}"
            )
        self.factor = factor
        blocks = F.pixel_unshuffle(images, factor).permute(0, 2, 3, 1).flatten(0, 2).double()
        variances, directions = torch.linalg.eigh(blocks.T.cov().reshape(most, most))
        chosen = slice(most - channels, most)
        deviations = variances[chosen].clamp(min=1e-12).sqrt()
        if not whiten:
            deviations = deviations.square().mean().sqrt().expand(channels)
        self.mean = blocks.mean(0).float().reshape(1, -1, 1, 1)
        self.analysis = (directions[:, chosen] / deviations).T.float()[..., None, None].contiguous()
        self.synthesis = (directions[:, chosen] * deviations).float()[..., None, None].contiguous()

    def encode(self, x: Tensor) -> DiagonalGaussianDistribution:
        """x: (B, C, H, W) -> the bell around its components, as narrow as that of `Pixels`."""
        z = F.conv2d(F.pixel_unshuffle(x, self.factor) - self.mean, self.analysis)
        return DiagonalGaussianDistribution(torch.cat([z, torch.full_like(z, -torch.inf)], dim=1))

    def decode(self, z: Tensor) -> Tensor:
        """(B, channels, h, w) -> (B, C, f h, f w)."""
        return F.pixel_shuffle(F.conv2d(z, self.synthesis) + self.mean, self.factor)


def sample_by_label(
    unet: nn.Module,
    scheduler: Scheduler,
    noise: Tensor,
    labels: Tensor,
    num_inference_steps: int,
    batch_size: int = 100,
) -> Tensor:
    """From noise to a clean latent of each of the labels (N,), without guidance.

    (N, C, h, w) -> (N, C, h, w).
    """
    if len(noise) != len(labels):
        raise ValueError(f"expected a label for each of {len(noise)} latents, got {len(labels)}")
    noise = noise.contiguous(memory_format=torch.channels_last)
    batch_size, drawn = checked_count("batch_size", batch_size), []
    for some, its_labels in zip(noise.split(batch_size), labels.split(batch_size), strict=True):
        predict = partial(ask_labelled, unet, its_labels)
        drawn.append(sample(predict, scheduler, some, num_inference_steps))
    return torch.cat(drawn)


def ask_labelled(unet: nn.Module, labels: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """What the U-Net says of x (N, C, h, w) at time t, told the labels (N,)."""
    return unet(x, t, labels)


def sample_gaussians(
    latents: Tensor, labels: Tensor, asked: Tensor, generator: torch.Generator
) -> Tensor:
    """For each of the labels asked for (N,) a point of the normal distribution that has the mean
    and the covariance of the latents (M, ...) of that label (M,): (N, ...). A generator without a
    network, to compare others with.

    No matrix is needed: random multiples of the deviations from the mean have that covariance. Two
    latents of each.
    """
    z = latents.new_empty(len(asked), *latents.shape[1:])
    for label in asked.unique():
        own, places = latents[labels == label], asked == label
        if len(own) < 2:
            raise ValueError(f"expected at least two latents of label {int(label)}, got {len(own)}")
        noise = torch.randn(int(places.sum()), len(own), generator=generator)
        multiples = noise / (len(own) - 1) ** 0.5
        z[places] = own.mean(0) + torch.tensordot(multiples, own - own.mean(0), 1)
    return z
