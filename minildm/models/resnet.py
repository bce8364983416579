"""The convolutional layers of U-Net and autoencoder: the residual block, halving, doubling (He et
al. 2016; Ho et al. 2020). Chapter 04."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ResnetBlock2D(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + W·silu(temb)))).

    x: (B, in_channels, H, W); temb: (B, temb_channels), or None where `temb_channels` is None.
    Returns (B, out_channels, H, W). Where the channels change, a 1x1 convolution carries x across.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        temb_channels: int | None = None,
        groups: int = 32,
        eps: float = 1e-6,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = (
            None if temb_channels is None else nn.Linear(temb_channels, out_channels)
        )
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = (
            None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        )

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None:
            if temb is None:
                raise ValueError("expected temb (B, temb_channels), got None")
            h = h + self.time_emb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample2D(nn.Module):
    """A 3x3 convolution of stride 2: (B, C, H, W) -> (B, C, H/2, W/2).

    `padding=1` pads all four sides (an odd side is rounded up); `padding=0`, as in the autoencoder
    and in the first DDPM checkpoints, pads right and bottom only (an odd side is rounded down).
    """

    def __init__(self, channels: int, padding: int = 1):
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))


class Upsample2D(nn.Module):
    """Nearest neighbours, then a 3x3 convolution.

    (B, C, H, W) -> (B, C, 2H, 2W), or (B, C, *output_size) if given.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, output_size: tuple[int, int] | None = None) -> Tensor:
        size = output_size or (2 * x.shape[-2], 2 * x.shape[-1])
        return self.conv(F.interpolate(x, size=size, mode="nearest"))
