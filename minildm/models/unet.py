"""The U-Net that predicts the noise, without text or with it (Ronneberger et al. 2015; Ho et al.
2020; Rombach et al. 2022). Chapters 04, 07 and 09."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.configuration import Config, ModelMixin, register_to_config
from minildm.models.attention import Attention
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
from minildm.models.embeddings import TimestepEmbedding, Timesteps


class _UNet(ModelMixin, nn.Module):
    """What both U-Nets share: down, middle, up, and the skips from the first to the last."""

    blocks: ClassVar[dict[str, type[nn.Module]]]

    def build_down(self, resnet: dict[str, Any], attentions_at: list[dict[str, Any]]) -> list[int]:
        """Make the layers of the way down and the middle that `self.config` asks for;
        `attentions_at` has the options of each down block. Returns the channels of the skips."""
        config, widths, num_layers = (
            self.config,
            self.config.block_out_channels,
            self.config.layers_per_block,
        )
        for key in ("down_block_types", "up_block_types"):
            if len(config.get(key, widths)) != len(widths):
                raise ValueError(
                    f"expected as many {key} as block_out_channels ({len(widths)}), got {config[key]}"
                )
        for key in (
            "layers_per_block",
            "norm_num_groups",
            "transformer_layers_per_block",
            "cross_attention_dim",
        ):
            if not isinstance(config.get(key, 1), int):  # later U-Nets have one for each block
                raise ValueError(
                    f"{type(self).__name__} supports only one number as {key}, got {config[key]!r}"
                )
        last, temb_channels = len(widths) - 1, 4 * widths[0]

        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_proj = Timesteps(widths[0], config.flip_sin_to_cos, config.freq_shift)
        self.time_embedding = TimestepEmbedding(widths[0], temb_channels)

        self.down_blocks, self.up_blocks = (
            nn.ModuleList(),
            nn.ModuleList(),
        )  # the way up stays empty in a ControlNet
        channels, skip_channels = (
            widths[0],
            [widths[0]],
        )  # what conv_in leaves; the blocks put theirs on top
        for i, name in enumerate(config.down_block_types):
            sizes = (
                channels,
                widths[i],
                num_layers,
                resnet,
                attentions_at[i],
                i < last,
                config.downsample_padding,
            )
            self.down_blocks.append(self.block_class(name, "Down")(*sizes))
            channels = widths[i]
            skip_channels += [channels] * (num_layers + (i < last))

        self.mid_block = None
        if config.mid_block_type is not None:
            self.mid_block = self.block_class(config.mid_block_type, "Mid")(
                channels, resnet, attentions_at[last]
            )
        return skip_channels

    def build(self, resnet: dict[str, Any], attentions_at: list[dict[str, Any]]) -> None:
        """Make all layers: those of the way down and the middle, then those of the way up."""
        skip_channels = self.build_down(resnet, attentions_at)
        config, widths, num_layers = (
            self.config,
            self.config.block_out_channels,
            self.config.layers_per_block,
        )
        channels, last = widths[-1], len(widths) - 1
        for i, name in zip(range(last, -1, -1), config.up_block_types, strict=True):
            taken = [skip_channels.pop() for _ in range(num_layers + 1)]
            sizes = (channels, widths[i], taken, resnet, attentions_at[i], i > 0)
            self.up_blocks.append(self.block_class(name, "Up")(*sizes))
            channels = widths[i]

        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[0], config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    def block_class(self, name: str, place: str) -> type[nn.Module]:
        possible = {key: block for key, block in self.blocks.items() if place in key}
        if name not in possible:
            raise ValueError(
                f"{type(self).__name__}: expected one of {', '.join(possible)}, got {name!r}"
            )
        return possible[name]

    def embed_time(self, timestep: Tensor | float, batch: int) -> Tensor:
        """A number, or one per sample -> (batch, temb_channels)."""
        timestep = torch.as_tensor(timestep, device=self.device)
        if timestep.numel() not in (1, batch):
            raise ValueError(
                f"expected one timestep, or one per sample ({batch}), got {tuple(timestep.shape)}"
            )
        return self.time_embedding(
            self.time_proj(timestep.reshape(-1).expand(batch)).to(self.dtype)
        )

    def encode(
        self, x: Tensor, temb: Tensor, context: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Down and middle: what `conv_in` leaves -> what the middle leaves, and the skips."""
        skips = [x]
        for block in self.down_blocks:
            x, on_the_way = block(x, temb, context)
            skips += on_the_way
        if self.mid_block is not None:
            x = self.mid_block(x, temb, context)
        return x, skips

    def denoise(
        self,
        sample: Tensor,
        temb: Tensor,
        context: Tensor | None,
        skip_residuals: Sequence[Tensor] | None = None,
        mid_residual: Tensor | None = None,
    ) -> Tensor:
        """Down, middle, up: (B, in_channels, H, W) -> (B, out_channels, H, W). The residuals are
        added in between."""
        x, skips = self.encode(self.conv_in(sample), temb, context)
        if skip_residuals is not None:
            if len(skip_residuals) != len(skips):
                raise ValueError(
                    f"expected {len(skips)} residuals, one for each skip, got {len(skip_residuals)}"
                )
            skips = [skip + residual for skip, residual in zip(skips, skip_residuals, strict=True)]
        if mid_residual is not None:
            x = x + mid_residual
        for block in self.up_blocks:
            x = block(x, skips, temb, context)
        return self.conv_out(F.silu(self.conv_norm_out(x)))

    def set_attention_slice(self, slice_size: int | str | None = "auto") -> None:
        """`Attention.set_attention_slice` of every layer."""
        for layer in self.modules():
            if isinstance(layer, Attention):
                layer.set_attention_slice(slice_size)

    def check_sample(self, sample: Tensor) -> None:
        if sample.ndim != 4 or sample.shape[1] != self.config.in_channels:
            raise ValueError(
                f"expected a sample (B, {self.config.in_channels}, H, W), got {tuple(sample.shape)}"
            )


class UNet2DModel(_UNet):
    """A U-Net that knows the time and, with `num_class_embeds`, a class label. Chapters 03 to
    05."""

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
    }

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] | None = None,
        in_channels: int = 3,
        out_channels: int = 3,
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
            "dim_head": attention_head_dim,
            "bias": True,
            "norm_num_groups": norm_num_groups,
            "eps": norm_eps,
        }
        resnet = {"groups": norm_num_groups, "eps": norm_eps, "dropout": dropout}
        resnet["temb_channels"] = 4 * block_out_channels[0]
        self.build(resnet, [attention] * len(block_out_channels))
        self.class_embedding = (
            nn.Embedding(num_class_embeds, 4 * block_out_channels[0]) if num_class_embeds else None
        )

    def forward(
        self, sample: Tensor, timestep: Tensor | float, class_labels: Tensor | None = None
    ) -> Tensor:
        """sample: (B, in_channels, H, W); timestep: a number or (B,); class_labels: (B,) int."""
        self.check_sample(sample)
        if (class_labels is None) != (self.class_embedding is None):
            expected = (
                "no class_labels (num_class_embeds is None)"
                if self.class_embedding is None
                else "class_labels"
            )
            raise ValueError(
                f"expected {expected}, got {'none' if class_labels is None else 'some'}"
            )
        temb = self.embed_time(timestep, len(sample))
        if class_labels is not None:
            temb = temb + self.class_embedding(class_labels)
        return self.denoise(sample, temb, None)


class UNet2DConditionModel(_UNet):
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
    }

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
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
    ):
        super().__init__()
        self.build(*layer_options(self.config))

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        down_block_additional_residuals: Sequence[Tensor] | None = None,
        mid_block_additional_residual: Tensor | None = None,
    ) -> Tensor:
        """sample: (B, in_channels, H, W); timestep: a number or (B,); encoder_hidden_states: (B, L,
        D). As sample.

        The additional residuals are a ControlNet's: one for each skip, and one for what the middle
        leaves.
        """
        self.check_sample(sample)
        check_context(encoder_hidden_states, len(sample), self.config.cross_attention_dim)
        temb, residuals = self.embed_time(timestep, len(sample)), down_block_additional_residuals
        return self.denoise(
            sample, temb, encoder_hidden_states, residuals, mid_block_additional_residual
        )


def layer_options(config: Config) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What all ResNets of a conditional U-Net share, and what the transformers at each width do."""
    heads, widths = config.attention_head_dim, config.block_out_channels
    if isinstance(heads, int):
        heads = (heads,) * len(widths)
    if len(heads) != len(widths):
        raise ValueError(f"expected {len(widths)} values of attention_head_dim, got {heads}")
    attention = {
        "cross_attention_dim": config.cross_attention_dim,
        "num_layers": config.transformer_layers_per_block,
        "norm_num_groups": config.norm_num_groups,
        "use_linear_projection": config.use_linear_projection,
    }
    resnet = {
        "groups": config.norm_num_groups,
        "eps": config.norm_eps,
        "dropout": config.get("dropout", 0.0),
    }
    resnet["temb_channels"] = 4 * widths[0]
    return resnet, [{**attention, "num_attention_heads": n} for n in heads]


def check_context(context: Tensor, batch: int, dim: int) -> None:
    """ValueError unless the context is (batch, L, dim)."""
    shape = tuple(context.shape)
    if len(shape) != 3 or shape[0] != batch or shape[2] != dim:
        raise ValueError(f"expected encoder_hidden_states ({batch}, L, {dim}), got {shape}")
