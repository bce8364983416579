"""The U-Net that predicts the noise, without text or with it (Ronneberger et al. 2015; Ho et al.
2020; Rombach et al. 2022). Chapters 04, 07 and 09."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from minildm.configuration.mixins import register_to_config
from minildm.models.blocks import (
    AttnDownBlock2D,
    AttnUpBlock2D,
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    UNetMidBlock2D,
    UNetMidBlock2DCrossAttn,
    UpBlock2D,
)
from minildm.models.embeddings import rows_of
from minildm.models.unet_encoder import UNetEncoder, check_context, layer_options
from minildm.precision import check_precision


class UNetBase(UNetEncoder):
    """What both U-Nets share: down, middle, up, and the skips from the first to the last."""

    def build(self, resnet: dict[str, Any], attentions_at: list[dict[str, Any]]) -> None:
        """Make all layers: those of the way down and the middle, then those of the way up."""
        config = self.config
        skip_channels = self.build_down(resnet, attentions_at)
        widths = config.block_out_channels
        last = len(widths) - 1
        in_channels = widths[last]
        for i, name in zip(range(last, -1, -1), config.up_block_types, strict=True):
            block = self.block_class(name, "Up")(
                in_channels=in_channels,
                out_channels=widths[i],
                skip_channels=[skip_channels.pop() for _ in range(config.layers_per_block + 1)],
                resnet=resnet,
                attention=attentions_at[i],
                add_upsample=i > 0,
            )
            self.up_blocks.append(block)
            in_channels = widths[i]

        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[0], config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    def denoise(
        self,
        sample: Tensor,
        temb: Tensor,
        context: Tensor | None,
        skip_residuals: Sequence[Tensor] | None = None,
        mid_residual: Tensor | None = None,
    ) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W). The residuals are a ControlNet's."""
        # 1. down and middle
        x, skips = self.encode(self.conv_in(sample), temb, context)
        # 2. what a ControlNet adds to the skips and to the middle
        if skip_residuals is not None:
            if len(skip_residuals) != len(skips):
                raise ValueError(
                    f"expected {len(skips)} residuals, one for each skip, got {len(skip_residuals)}"
                )
            skips = [add(skip, said) for skip, said in zip(skips, skip_residuals, strict=True)]
        if mid_residual is not None:
            x = add(x, mid_residual)
        # 3. up, where each block takes its skips from the end of the list
        for block in self.up_blocks:
            x = block(x, skips, temb, context)
        # 4. out
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def add(x: Tensor, residual: Tensor) -> Tensor:
    """Their sum; a residual of another shape would be spread over the samples."""
    if residual.shape != x.shape:
        expected, got = tuple(x.shape), tuple(residual.shape)
        raise ValueError(f"expected a residual of shape {expected}, got {got}")
    return x + residual


class UNet2DModel(UNetBase):
    """A U-Net that knows the time and, with `num_class_embeds`, a class label."""

    blocks = {
        "DownBlock2D": DownBlock2D,
        "AttnDownBlock2D": AttnDownBlock2D,
        "UNetMidBlock2D": UNetMidBlock2D,
        "UpBlock2D": UpBlock2D,
        "AttnUpBlock2D": AttnUpBlock2D,
    }
    unsupported = {
        "act_fn": ("silu", "swish"),
        "time_embedding_type": "positional",
        "mid_block_scale_factor": 1,
        "downsample_type": "conv",
        "upsample_type": "conv",
        "resnet_time_scale_shift": "default",
        "add_attention": True,
        "num_train_timesteps": ...,  # only a learned time embedding would use it
        **dict.fromkeys(
            ("center_input_sample", "class_embed_type", "time_embedding_dim"), (None, False)
        ),
        "attn_norm_num_groups": None,
    }

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] | None = None,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        freq_shift: int = 0,
        flip_sin_to_cos: bool = True,
        down_block_types: tuple[str, ...] = (
            "DownBlock2D",
            "AttnDownBlock2D",
            "AttnDownBlock2D",
            "AttnDownBlock2D",
        ),
        mid_block_type: str | None = "UNetMidBlock2D",
        up_block_types: tuple[str, ...] = (
            "AttnUpBlock2D",
            "AttnUpBlock2D",
            "AttnUpBlock2D",
            "UpBlock2D",
        ),
        block_out_channels: tuple[int, ...] = (224, 448, 672, 896),
        layers_per_block: int = 2,
        downsample_padding: int = 1,
        dropout: float = 0.0,
        attention_head_dim: int | None = 8,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        num_class_embeds: int | None = None,
    ):
        super().__init__()
        attention = {
            "attention_head_dim": attention_head_dim,
            "norm_num_groups": norm_num_groups,
            "eps": norm_eps,
        }
        resnet = {
            "temb_channels": 4 * block_out_channels[0],
            "groups": norm_num_groups,
            "eps": norm_eps,
            "dropout": dropout,
        }
        self.build(resnet, [attention] * len(block_out_channels))
        self.class_embedding = (
            nn.Embedding(num_class_embeds, 4 * block_out_channels[0]) if num_class_embeds else None
        )

    def forward(
        self, sample: Tensor, timestep: Tensor | float, class_labels: Tensor | None = None
    ) -> Tensor:
        """sample: (B, in_channels, H, W); timestep: a number or (B,); class_labels: (B,) int."""
        self.check_sample(sample)
        temb = self.embed_time(timestep, len(sample))
        if self.class_embedding is not None:
            if class_labels is None:
                raise ValueError("expected class_labels, got none")
            if class_labels.shape != (len(sample),):
                got = tuple(class_labels.shape)
                raise ValueError(f"expected class_labels ({len(sample)},), one a sample, got {got}")
            temb = temb + rows_of(self.class_embedding, class_labels, "class_labels")
        elif class_labels is not None:
            raise ValueError("expected no class_labels (num_class_embeds is None), got some")
        return self.denoise(sample, temb, context=None)


# What later models added: none of it is in Stable Diffusion 1 and 2.
WITHOUT = (
    "addition_embed_type",
    "addition_time_embed_dim",
    "center_input_sample",
    "class_embed_type",
    "class_embeddings_concat",
    "cross_attention_norm",
    "dual_cross_attention",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "mid_block_only_cross_attention",
    "num_attention_heads",
    "num_class_embeds",
    "only_cross_attention",
    "projection_class_embeddings_input_dim",
    "resnet_skip_time_act",
    "reverse_transformer_layers_per_block",
    "time_embedding_act_fn",
    "time_embedding_dim",
    "timestep_post_act",
)


class UNet2DConditionModel(UNetBase):
    """The U-Net of Stable Diffusion: it also reads a text, through cross-attention.

    `attention_head_dim`, one for all blocks or one each, is the *number* of heads: a name that
    diffusers mistook and every checkpoint has since kept.
    """

    blocks = {
        "DownBlock2D": DownBlock2D,
        "CrossAttnDownBlock2D": CrossAttnDownBlock2D,
        "UNetMidBlock2DCrossAttn": UNetMidBlock2DCrossAttn,
        "UpBlock2D": UpBlock2D,
        "CrossAttnUpBlock2D": CrossAttnUpBlock2D,
    }
    unsupported = {
        "act_fn": ("silu", "swish"),
        "time_embedding_type": "positional",
        "mid_block_scale_factor": 1,
        "resnet_time_scale_shift": "default",
        "resnet_out_scale_factor": 1,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "attention_type": "default",
        "upcast_attention": ...,  # about overflow in float16 only
        "addition_embed_type_num_heads": ...,  # means something only with an addition_embed_type
        **dict.fromkeys(WITHOUT, (None, False)),
    }

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
        *,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        down_block_types: tuple[str, ...] = (*3 * ("CrossAttnDownBlock2D",), "DownBlock2D"),
        mid_block_type: str | None = "UNetMidBlock2DCrossAttn",
        up_block_types: tuple[str, ...] = ("UpBlock2D", *3 * ("CrossAttnUpBlock2D",)),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        downsample_padding: int = 1,
        dropout: float = 0.0,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 1280,
        transformer_layers_per_block: int = 1,
        attention_head_dim: int | tuple[int, ...] = 8,
        use_linear_projection: bool = False,
        time_cond_proj_dim: int | None = None,
    ):
        super().__init__()
        resnet, attentions_at = layer_options(self.config)
        self.build(resnet, attentions_at)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        down_block_additional_residuals: Sequence[Tensor] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        timestep_cond: Tensor | None = None,
    ) -> Tensor:
        """sample: (B, in_channels, H, W); timestep: a number or (B,); encoder_hidden_states:
        (B, L, D). Returns (B, out_channels, H, W).

        The additional residuals are a ControlNet's: one for each skip, and one for what the middle
        leaves. timestep_cond, (B, time_cond_proj_dim): what a distilled network is told beside the
        time.
        """
        self.check_sample(sample)
        check_context(encoder_hidden_states, len(sample), self.config.cross_attention_dim)
        check_precision(encoder_hidden_states, "encoder_hidden_states", self.dtype)
        return self.denoise(
            sample,
            temb=self.embed_time(timestep, len(sample), timestep_cond),
            context=encoder_hidden_states,
            skip_residuals=down_block_additional_residuals,
            mid_residual=mid_block_additional_residual,
        )
