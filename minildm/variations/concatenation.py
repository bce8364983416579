"""Conditions that are pictures: laid beside x_t (super-resolution, semantic maps), or read as
tokens by cross-attention (Saharia et al. 2021; Rombach et al. 2022; Brooks et al. 2023).
Chapter 10.

A condition that has a *place* is concatenated: x_t and it enter `conv_in` together, channel upon
channel. One that has none, the look of a picture say, becomes a context, where a text would stand.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.data.scenes import GROUND
from minildm.diffusion.guidance import predict_guided, unconditional
from minildm.diffusion.sampling import sample
from minildm.models.classifier import ImageClassifier
from minildm.models.unet import UNet2DConditionModel, UNet2DModel
from minildm.pipelines.stable_diffusion import StableDiffusionPipeline
from minildm.schedulers.base import Scheduler

AnyUNet = TypeVar("AnyUNet", UNet2DModel, UNet2DConditionModel)
MAP_CLASSES = GROUND + 1  # of a semantic map


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in decibels, 10 log10(2² / squared error).

    images, originals: (N, C, H, W) in [-1, 1]. Returns (N,).
    """
    if images.shape != originals.shape:
        expected, got = tuple(originals.shape), tuple(images.shape)
        raise ValueError(f"expected images of the originals' shape {expected}, got {got}")
    return 10 * torch.log10(4 / (images - originals).square().flatten(1).mean(1))


# Laid beside x_t


@torch.no_grad()
def widen_conv_in(unet: AnyUNet, extra_channels: int) -> AnyUNet:
    """The same network with `extra_channels` more of input, whose weights are zero.

    They come behind those it has. Whatever lies in them, it answers as before; the weights'
    gradient is not zero, so it learns to look.
    """
    if extra_channels < 1:
        raise ValueError(f"expected at least 1 extra channel, got {extra_channels}")
    wider = type(unet).from_config(
        unet.config, in_channels=unet.config.in_channels + extra_channels
    )
    state = unet.state_dict()
    state["conv_in.weight"] = F.pad(state["conv_in.weight"], (0, 0, 0, 0, 0, extra_channels))
    wider.load_state_dict(state)
    wider = wider.to(unet.device, unet.dtype).to(memory_format=torch.channels_last)
    return wider.train(unet.training)


def encode_maps(maps: Tensor, size: int, how: str = "area", classes: int = MAP_CLASSES) -> Tensor:
    """Semantic maps (N, H, H) of integers below `classes` on a grid `size` wide.

    Returns (N, K, size, size) in [0, 1].

    how: "area", how much of each cell belongs to each class, K = classes; "depth", which class each
    pixel of the cell belongs to, K = classes · (H / size)², nothing lost (Shi et al. 2016 run it
    backwards).
    """
    if (
        maps.ndim != 3
        or maps.shape[1] != maps.shape[2]
        or maps.shape[1] % size
        or maps.is_floating_point()
    ):
        got = f"{tuple(maps.shape)} {maps.dtype}"
        raise ValueError(f"expected integer maps (N, H, H), H a multiple of {size}, got {got}")
    if maps.numel() and not 0 <= int(maps.min()) <= int(maps.max()) < classes:
        got = f"{int(maps.min())} to {int(maps.max())}"
        raise ValueError(f"expected classes from 0 to {classes - 1}, got {got}")
    factor = maps.shape[1] // size
    planes = F.one_hot(maps.long(), classes).movedim(3, 1).float()
    if how == "area":
        return F.avg_pool2d(planes, factor)
    if how == "depth":
        return F.pixel_unshuffle(planes, factor)
    raise ValueError(f'expected how to be "area" or "depth", got {how!r}')


class ConcatenatedUNet(nn.Module):
    """A U-Net that sees x (B, C, h, w) and, as further channels, a condition (B, K, h, w), which
    has a place; perhaps a context (B, L, D) besides. The U-Net has C + K channels of input."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet = unet.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, timesteps: Tensor, condition: Tensor, *context: Tensor) -> Tensor:
        if condition.ndim != 4 or (len(condition), *condition.shape[2:]) != (len(x), *x.shape[2:]):
            expected = f"({len(x)}, K, {', '.join(map(str, x.shape[2:]))})"
            raise ValueError(f"expected a condition {expected}, got {tuple(condition.shape)}")
        both = torch.cat([x, condition], 1).contiguous(memory_format=torch.channels_last)
        return self.unet(both, timesteps, *context)


def sample_concatenated(
    unet: nn.Module,
    scheduler: Scheduler,
    noise: Tensor,
    condition: Tensor,
    num_inference_steps: int,
) -> Tensor:
    """Pictures (N, C, h, w) from noise of that shape, `condition` (N, K, h, w) beside x_t at every
    step."""
    concatenated = ConcatenatedUNet(unet)
    return sample(lambda x, t: concatenated(x, t, condition), scheduler, noise, num_inference_steps)


@torch.no_grad()
def sample_with_map(
    pipeline: StableDiffusionPipeline,
    unet: UNet2DConditionModel,
    noise: Tensor,
    condition: Tensor,
    context: Tensor,
    nothing: Tensor,
    map_scale: float = 1.5,
    text_scale: float = 1.5,
    num_inference_steps: int = 15,
) -> Tensor:
    """Pictures (N, C, H, W) in [-1, 1] from noise (N, c, h, w), a map and a text, each with a
    guidance of its own: v(-, -) + m·(v(map, -) - v(-, -)) + s·(v(map, text) - v(map, -)), Brooks et
    al. 2023, eq. 3.

    condition: encoded maps (N, K, h, w), zeros for none; context: texts (N, L, D); nothing: that of
    no text (L, D). Autoencoder and sampler are the pipeline's.
    """
    concatenated = ConcatenatedUNet(unet)
    no_text = unconditional(nothing, context)
    contexts = torch.stack([no_text, no_text, context])
    conditions = torch.stack([torch.zeros_like(condition), condition, condition])

    def predict(x: Tensor, t: Tensor) -> Tensor:
        scales = [map_scale, text_scale]
        return predict_guided(concatenated, x, t, conditions, contexts, scales=scales)

    return pipeline.decode(sample(predict, pipeline.scheduler, noise, num_inference_steps))


# Read by cross-attention


@torch.no_grad()
def image_features(encoder: ImageClassifier, images: Tensor, block: int | None = None) -> Tensor:
    """What a frozen classifier sees in images, as tokens (N, L, D).

    block: None for its last layer before the classes, one token; or the number of a block, whose
    feature map has a token for each of its places, after pooling.
    """
    if encoder.training:
        raise ValueError(
            "expected the encoder in evaluation mode (encoder.eval()), got training mode"
        )
    if block is None:
        return encoder.features(images)[:, None]
    return encoder.pool(encoder.feature_maps(images)[block]).flatten(2).mT


class ImageContext(nn.Module):
    """Features (B, L, D), normalised, projected and told where they are -> a context (B, L, dim).

    An image that is not `keep` (B,) bool is left out: its tokens are zero.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: Tensor, dim: int):
        super().__init__()
        length, width = features.shape[1:]  # of examples, whose mean and deviation are kept too
        self.register_buffer("mean", features.mean((0, 1)))
        self.register_buffer("std", features.std((0, 1)).clamp(min=1e-3))
        self.project = nn.Linear(width, dim)
        self.positions = nn.Parameter(0.02 * torch.randn(length, dim))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor, keep: Tensor | None = None) -> Tensor:
        expected = (len(self.positions), len(self.mean))
        if features.shape[1:] != expected or (
            keep is not None and keep.shape != features.shape[:1]
        ):
            got = f"{tuple(features.shape)} and {None if keep is None else tuple(keep.shape)}"
            length, width = expected
            raise ValueError(f"expected features (B, {length}, {width}) and keep (B,), got {got}")
        tokens = self.norm(self.project((features - self.mean) / self.std) + self.positions)
        return tokens if keep is None else tokens * keep[:, None, None]
