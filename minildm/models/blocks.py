"""The blocks that U-Net and autoencoder are built from: on the way down, in the middle, on the way
up (Ho et al. 2020; Rombach et al. 2022). Chapters 04, 06 and 09."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from minildm.models.attention import ImageAttention, Transformer2DModel
from minildm.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D

# Every block is a row of ResNets, with or without attention after each. `resnet` and `attention`
# hold the keyword arguments that all layers of their kind share. `temb` is the embedded time,
# (B, temb_channels), `context` the embedded text, (B, L, cross_attention_dim); either may be None
# where nothing reads it.


class DownBlock2D(nn.Module):
    """ResNets, then half the size. Returns the image and all it was on the way, which the way up
    will want."""

    attention_class: ClassVar[type[nn.Module] | None] = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_layers: int,
        resnet: dict[str, Any],
        attention: dict[str, Any] | None = None,
        add_downsample: bool = True,
        downsample_padding: int = 1,
    ):
        super().__init__()
        widths = [in_channels] + num_layers * [out_channels]
        self.resnets = nn.ModuleList(
            ResnetBlock2D(widths[i], widths[i + 1], **resnet) for i in range(num_layers)
        )
        self.attentions = attentions(self.attention_class, num_layers, out_channels, attention)
        self.downsamplers = nn.ModuleList(
            [Downsample2D(out_channels, downsample_padding)] if add_downsample else []
        )

    def forward(
        self, x: Tensor, temb: Tensor | None, context: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(resnet(x, temb), context)
            skips.append(x)
        for downsampler in self.downsamplers:
            x = downsampler(x)
            skips.append(x)
        return x, skips


class AttnDownBlock2D(DownBlock2D):
    """A DownBlock2D in which the pixels attend to each other."""

    attention_class = ImageAttention


class CrossAttnDownBlock2D(DownBlock2D):
    """A DownBlock2D in which the pixels attend to each other and to the context."""

    attention_class = Transformer2DModel


class UNetMidBlock2D(nn.Module):
    """ResNet, self-attention (unless `attention` is None), ResNet, at the smallest size."""

    attention_class: ClassVar[type[nn.Module] | None] = ImageAttention

    def __init__(self, channels: int, resnet: dict[str, Any], attention: dict[str, Any] | None):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock2D(channels, channels, **resnet) for _ in range(2))
        kind = None if attention is None else self.attention_class
        self.attentions = attentions(kind, 1, channels, attention)

    def forward(
        self, x: Tensor, temb: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, temb), context)
        return self.resnets[1](x, temb)


class UNetMidBlock2DCrossAttn(UNetMidBlock2D):
    """A UNetMidBlock2D that attends to the context too."""

    attention_class = Transformer2DModel


class UpBlock2D(nn.Module):
    """ResNets, each of which also gets what the way down had at this place; then twice the size.

    `skips` is taken from the end. The size doubles to that of the next skip: an odd one comes back
    odd.
    """

    attention_class: ClassVar[type[nn.Module] | None] = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        skip_channels: list[int],
        resnet: dict[str, Any],
        attention: dict[str, Any] | None = None,
        add_upsample: bool = True,
    ):
        super().__init__()
        widths = [in_channels] + (len(skip_channels) - 1) * [out_channels]
        self.resnets = nn.ModuleList(
            ResnetBlock2D(width + skip, out_channels, **resnet)
            for width, skip in zip(widths, skip_channels, strict=True)
        )
        self.attentions = attentions(
            self.attention_class, len(skip_channels), out_channels, attention
        )
        self.upsamplers = nn.ModuleList([Upsample2D(out_channels)] if add_upsample else [])

    def forward(
        self, x: Tensor, skips: list[Tensor], temb: Tensor, context: Tensor | None = None
    ) -> Tensor:
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(resnet(torch.cat([x, skips.pop()], dim=1), temb), context)
        for upsampler in self.upsamplers:
            x = upsampler(x, skips[-1].shape[-2:])
        return x


class AttnUpBlock2D(UpBlock2D):
    """An UpBlock2D in which the pixels attend to each other."""

    attention_class = ImageAttention


class CrossAttnUpBlock2D(UpBlock2D):
    """An UpBlock2D in which the pixels attend to each other and to the context."""

    attention_class = Transformer2DModel


class NoAttention(nn.Module):
    """Stands where other blocks attend."""

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        return x


def attentions(
    kind: type[nn.Module] | None, num: int, channels: int, options: dict[str, Any] | None
) -> nn.ModuleList:
    """`num` layers of that kind, or of none."""
    if kind is None:
        return nn.ModuleList(NoAttention() for _ in range(num))
    return nn.ModuleList(kind(channels, **(options or {})) for _ in range(num))
