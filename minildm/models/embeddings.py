"""The timestep as a vector: sines and cosines of many frequencies (Vaswani et al. 2017; Ho et al.
2020), then a small network. Chapter 04."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def get_timestep_embedding(
    timesteps: Tensor,
    embedding_dim: int,
    flip_sin_to_cos: bool = False,
    downscale_freq_shift: float = 1,
    max_period: float = 10000,
) -> Tensor:
    """[sin(t·w_i), cos(t·w_i)], w_i = max_period^(-i / (embedding_dim/2 - downscale_freq_shift)).

    timesteps: (B,), may be fractional. Returns (B, embedding_dim), float32; the cosines come first
    with `flip_sin_to_cos`; an odd dimension ends in a zero.
    """
    half = embedding_dim // 2
    exponents = -math.log(max_period) * torch.arange(
        half, dtype=torch.float32, device=timesteps.device
    )
    angles = timesteps[:, None].float() * torch.exp(exponents / (half - downscale_freq_shift))
    parts = [angles.cos(), angles.sin()] if flip_sin_to_cos else [angles.sin(), angles.cos()]
    return F.pad(torch.cat(parts, dim=-1), (0, embedding_dim % 2))


class Timesteps(nn.Module):
    """`get_timestep_embedding` as a layer: (B,) -> (B, num_channels)."""

    def __init__(self, num_channels: int, flip_sin_to_cos: bool, downscale_freq_shift: float):
        super().__init__()
        self.num_channels = num_channels
        self.flip_sin_to_cos = flip_sin_to_cos
        self.downscale_freq_shift = downscale_freq_shift

    def forward(self, timesteps: Tensor) -> Tensor:
        return get_timestep_embedding(
            timesteps, self.num_channels, self.flip_sin_to_cos, self.downscale_freq_shift
        )


class TimestepEmbedding(nn.Module):
    """Linear, SiLU, linear: (B, in_channels) -> (B, time_embed_dim)."""

    def __init__(self, in_channels: int, time_embed_dim: int):
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, time_embed_dim)
        self.linear_2 = nn.Linear(time_embed_dim, time_embed_dim)

    def forward(self, sample: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(sample)))
