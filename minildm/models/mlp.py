"""A network small enough to learn points of the plane in seconds. Chapter 03."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.models.embeddings import TimestepEmbedding, Timesteps


class ToyDenoiser(nn.Module):
    """A small network of the U-Net's signature: a noisy point and its timestep in, a point out.

    sample: (B, 2); timesteps: (B,) or one number. Returns (B, 2).
    """

    def __init__(self, hidden: int = 128, layers: int = 3):
        super().__init__()
        self.time_proj = Timesteps(hidden, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(hidden, hidden)
        self.linear_in = nn.Linear(2, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
        self.linear_out = nn.Linear(hidden, 2)

    def forward(self, sample: Tensor, timesteps: Tensor | int) -> Tensor:
        timesteps = torch.as_tensor(timesteps, device=sample.device)
        if sample.ndim != 2 or timesteps.numel() not in (1, len(sample)):
            got = f"{tuple(sample.shape)} and {tuple(timesteps.shape)}"
            raise ValueError(f"expected points (B, 2) and a timestep, or one a point, got {got}")
        timesteps = timesteps.reshape(-1).expand(len(sample))
        x = self.linear_in(sample) + self.time_embedding(self.time_proj(timesteps))
        for layer in self.layers:
            x = x + layer(F.silu(x))
        return self.linear_out(F.silu(x))
