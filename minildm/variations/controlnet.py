"""ControlNet: a copy of the U-Net's way down reads a picture and speaks to the frozen original
through convolutions that begin at zero (Zhang et al. 2023). Chapter 16."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.configuration.mixins import Config, register_to_config
from minildm.models.unet import UNet2DConditionModel
from minildm.models.unet_encoder import UNetEncoder, check_context, layer_options


def zero_convolution(
    channels: int, out_channels: int | None = None, kernel_size: int = 1
) -> nn.Conv2d:
    """A convolution whose weights and bias are zero: it says nothing yet, and its gradient is not
    zero."""
    layer = nn.Conv2d(channels, out_channels or channels, kernel_size, padding=kernel_size // 2)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ControlNetConditioningEmbedding(nn.Module):
    """A picture (B, C, H, W) at the size of the latents, (B, width, H / f, W / f): f doubles with
    every entry of `channels` but the first."""

    def __init__(self, width: int, conditioning_channels: int, channels: tuple[int, ...]):
        super().__init__()
        self.conv_in = nn.Conv2d(conditioning_channels, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for before, after in zip(channels[:-1], channels[1:], strict=True):
            self.blocks.append(nn.Conv2d(before, before, 3, padding=1))
            self.blocks.append(nn.Conv2d(before, after, 3, padding=1, stride=2))
        self.conv_out = zero_convolution(channels[-1], width, 3)

    def forward(self, conditioning: Tensor) -> Tensor:
        x = F.silu(self.conv_in(conditioning))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)


class ControlNetModel(UNetEncoder):
    """What is to be added to a U-Net's skips and middle, from a picture.

    `conditioning_embedding_out_channels` brings the picture to the size of the latents: four
    entries divide it by 8, as Stable Diffusion's autoencoder does, three by 4.
    """

    blocks = UNet2DConditionModel.blocks
    unsupported = UNet2DConditionModel.unsupported | {
        "controlnet_conditioning_channel_order": "rgb",
        "global_pool_conditions": (None, False),
    }

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        conditioning_channels: int = 3,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        down_block_types: tuple[str, ...] = (*3 * ("CrossAttnDownBlock2D",), "DownBlock2D"),
        mid_block_type: str = "UNetMidBlock2DCrossAttn",
        *,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        downsample_padding: int = 1,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 1280,
        transformer_layers_per_block: int = 1,
        attention_head_dim: int | tuple[int, ...] = 8,
        use_linear_projection: bool = False,
        conditioning_embedding_out_channels: tuple[int, ...] = (16, 32, 96, 256),
    ):
        super().__init__()
        resnet, attentions_at = layer_options(self.config)
        skip_channels = self.build_down(resnet, attentions_at)
        self.controlnet_cond_embedding = ControlNetConditioningEmbedding(
            width=block_out_channels[0],
            conditioning_channels=conditioning_channels,
            channels=conditioning_embedding_out_channels,
        )
        self.controlnet_down_blocks = nn.ModuleList(map(zero_convolution, skip_channels))
        self.controlnet_mid_block = zero_convolution(block_out_channels[-1])

    @classmethod
    def from_unet(
        cls,
        unet: UNet2DConditionModel,
        conditioning_embedding_out_channels: tuple[int, ...] = (16, 32, 96, 256),
        conditioning_channels: int = 3,
    ) -> ControlNetModel:
        """A copy of the U-Net's way down and middle, whose zero convolutions say nothing yet."""
        ours = cls.arguments()
        controlnet = cls(
            **{key: value for key, value in unet.config.items() if key in ours},
            conditioning_channels=conditioning_channels,
            conditioning_embedding_out_channels=conditioning_embedding_out_channels,
        )
        state = controlnet.state_dict()
        controlnet.load_state_dict(
            state | {key: value for key, value in unet.state_dict().items() if key in state}
        )
        return controlnet.to(unet.device, unet.dtype)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        controlnet_cond: Tensor,
        conditioning_scale: float = 1.0,
    ) -> tuple[list[Tensor], Tensor]:
        """What to add to each skip, and to what the middle leaves.

        sample: (B, in_channels, h, w); timestep: a number or (B,); encoder_hidden_states:
        (B, L, D); controlnet_cond: (B, conditioning_channels, f·h, f·w).
        """
        self.check_sample(sample)
        check_context(encoder_hidden_states, len(sample), self.config.cross_attention_dim)
        factor = 2 ** (len(self.config.conditioning_embedding_out_channels) - 1)
        height, width = sample.shape[2:]
        expected = (len(sample), self.config.conditioning_channels, factor * height, factor * width)
        if controlnet_cond.shape != expected:
            raise ValueError(
                f"expected controlnet_cond {expected}, got {tuple(controlnet_cond.shape)}"
            )
        x = self.conv_in(sample) + self.controlnet_cond_embedding(controlnet_cond)
        x, skips = self.encode(x, self.embed_time(timestep, len(sample)), encoder_hidden_states)
        said = [layer(skip) for layer, skip in zip(self.controlnet_down_blocks, skips, strict=True)]
        return [
            conditioning_scale * residual for residual in said
        ], conditioning_scale * self.controlnet_mid_block(x)


class ControlledUNet(nn.Module):
    """A U-Net and the ControlNet that speaks to it about pictures, to stand where the U-Net stood.

    >>> pipeline.unet = ControlledUNet(pipeline.unet, controlnet, maps)  # to draw
    >>> loss = DenoisingLoss(ControlledUNet(unet.requires_grad_(False), controlnet), scheduler)

    controlnet_cond: (M, C, H, W), the pictures of every call that brings none of its own. Where a
        pipeline draws, one for all it draws, one for each prompt, or one for each picture; they
        travel with the row that they belong to. Elsewhere a batch of 2·M samples, as guidance makes
        it, sees them twice.
    """

    saved_as = UNet2DConditionModel  # what a folder's list of parts calls it

    def __init__(
        self,
        unet: UNet2DConditionModel,
        controlnet: ControlNetModel,
        controlnet_cond: Tensor | None = None,
        conditioning_scale: float = 1.0,
    ):
        super().__init__()
        check_same_way_down(unet, controlnet)
        self.unet = unet
        self.controlnet = controlnet
        self.controlnet_cond = controlnet_cond
        self.conditioning_scale = conditioning_scale
        self.shown: Tensor | None = None  # which of the pictures, (B,); None for all

    @property
    def config(self) -> Config:
        return self.unet.config

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def device(self) -> torch.device:
        return self.unet.device

    def set_attention_slice(self, slice_size: int | str | None = "auto") -> None:
        """`Attention.set_attention_slice` of every layer of both."""
        self.unet.set_attention_slice(slice_size)
        self.controlnet.set_attention_slice(slice_size)

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        dtype: torch.dtype | None = None,
        variant: str | None = None,
    ) -> None:
        """The U-Net's files in `folder`, the ControlNet's in `controlnet` below it; the pictures
        are not kept."""
        self.unet.save_pretrained(folder, dtype, variant)
        self.controlnet.save_pretrained(Path(folder) / "controlnet", dtype, variant)

    @contextmanager
    def drawing(self, rows: slice, count: int, num_images_per_prompt: int = 1) -> Iterator[None]:
        """While it lasts, samples are these rows of the `count` that a pipeline's call draws, those
        of one prompt together."""
        if self.controlnet_cond is not None:
            given, prompts = len(self.controlnet_cond), count // num_images_per_prompt
            if given not in (1, prompts, count):
                allowed = " or ".join(map(str, sorted({1, prompts, count})))
                raise ValueError(
                    f"expected a controlnet_cond of {allowed} pictures, to draw {count} of "
                    f"{prompts} prompts, got {given}"
                )
            self.shown = torch.arange(count)[rows] // (count // given)
        try:
            yield
        finally:
            self.shown = None

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        controlnet_cond: Tensor | None = None,
    ) -> Tensor:
        """sample: (B, C, h, w); timestep: a number or (B,); encoder_hidden_states: (B, L, D);
        controlnet_cond: (N, K, H, W), B a multiple of N; the constructor's if not given."""
        pictures = self.controlnet_cond if controlnet_cond is None else controlnet_cond
        if pictures is None:
            raise ValueError("expected a controlnet_cond, here or in the constructor, got none")
        if controlnet_cond is None and self.shown is not None:
            pictures = pictures[self.shown.to(pictures.device)]
        times, rest = divmod(len(sample), len(pictures))
        if rest:
            raise ValueError(f"expected a multiple of {len(pictures)} samples, got {len(sample)}")
        pictures = pictures.repeat(times, 1, 1, 1).to(sample)
        down, mid = self.controlnet(
            sample, timestep, encoder_hidden_states, pictures, self.conditioning_scale
        )
        return self.unet(sample, timestep, encoder_hidden_states, down, mid)


def check_same_way_down(unet: UNet2DConditionModel, controlnet: ControlNetModel) -> None:
    """ValueError if the ControlNet's residuals have no place in the U-Net."""
    for key in ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim"):
        expected, got = unet.config[key], controlnet.config[key]
        if expected != got:
            raise ValueError(
                f"expected a ControlNet of {key} = {expected}, as its U-Net, got {got}"
            )
