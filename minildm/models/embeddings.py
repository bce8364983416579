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


def get_guidance_scale_embedding(w: Tensor, embedding_dim: int = 512) -> Tensor:
    """A number told beside the time, guidance_scale - 1 say, (B,) -> (B, embedding_dim): as a
    timestep a thousand times as large, sines first."""
    return get_timestep_embedding(1000 * w, embedding_dim)


class Timesteps(nn.Module):
    """`get_timestep_embedding` as a layer: (B,) -> (B, num_channels)."""

    def __init__(self, num_channels: int, flip_sin_to_cos: bool, downscale_freq_shift: float):
        super().__init__()
        half = num_channels // 2
        if not downscale_freq_shift < half:  # frequencies would divide by 0, or overflow
            raise ValueError(f"expected a freq_shift below {half}, got {downscale_freq_shift}")
        self.num_channels = num_channels
        self.flip_sin_to_cos = flip_sin_to_cos
        self.downscale_freq_shift = downscale_freq_shift

    def forward(self, timesteps: Tensor) -> Tensor:
        return get_timestep_embedding(
            timesteps, self.num_channels, self.flip_sin_to_cos, self.downscale_freq_shift
        )


class TimestepEmbedding(nn.Module):
    """Linear, SiLU, linear: (B, in_channels) -> (B, time_embed_dim).

    With `cond_proj_dim` a distilled network is told one thing more beside the time, a `condition`
    (B, cond_proj_dim): the guidance that is in its weights (Meng et al. 2023), or how far a step
    goes.
    """

    def __init__(self, in_channels: int, time_embed_dim: int, cond_proj_dim: int | None = None):
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, time_embed_dim)
        self.cond_proj = (
            nn.Linear(cond_proj_dim, in_channels, bias=False) if cond_proj_dim else None
        )
        self.linear_2 = nn.Linear(time_embed_dim, time_embed_dim)

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is not None:
            if self.cond_proj is None:
                raise ValueError("expected no timestep_cond (time_cond_proj_dim is None), got some")
            sample = sample + self.cond_proj(condition)
        return self.linear_2(F.silu(self.linear_1(sample)))


def rows_of(table: nn.Embedding, ids: Tensor, name: str) -> Tensor:
    """The table's rows for whole numbers `ids`, (…) -> (…, D); ValueError where it has none.
    `name`: theirs, for the error."""
    expected = f"expected {name} of whole numbers from 0 to {table.num_embeddings - 1}"
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{expected}, got {ids.dtype}")
    try:
        return table(ids)
    except IndexError:  # PyTorch's own says neither what came nor what would do
        raise ValueError(f"{expected}, got {int(ids.min())} to {int(ids.max())}") from None
