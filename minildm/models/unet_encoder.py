"""The way down of a U-Net, and its middle: all of it that a ControlNet has, too (Ronneberger et al.
2015; Ho et al. 2020; Rombach et al. 2022). Chapters 04 and 09."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from minildm.configuration.mixins import Config, ModelMixin
from minildm.models.attention import Attention
from minildm.models.embeddings import TimestepEmbedding, Timesteps
from minildm.precision import check_precision


class UNetEncoder(ModelMixin, nn.Module):
    """An image (B, in_channels, H, W) in ever smaller sizes, each kept as a skip for the way up.

    `blocks` has the classes that a configuration may name.
    """

    blocks: ClassVar[dict[str, type[nn.Module]]]

    def build_down(self, resnet: dict[str, Any], attentions_at: list[dict[str, Any]]) -> list[int]:
        """Make the layers that `self.config` asks for; returns the channels of the skips.

        resnet: the options of every ResNet. attentions_at: those of each down block's attention,
        the last of them the middle's, too.
        """
        config = self.config
        check_one_number_each(self)
        widths = config.block_out_channels
        last = len(widths) - 1

        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_proj = Timesteps(widths[0], config.flip_sin_to_cos, config.freq_shift)
        self.time_embedding = TimestepEmbedding(
            widths[0], 4 * widths[0], cond_proj_dim=config.get("time_cond_proj_dim")
        )

        self.down_blocks = nn.ModuleList()
        # between the two, as in diffusers: an optimizer counts parameters in this order. In a
        # ControlNet it stays empty.
        self.up_blocks = nn.ModuleList()
        in_channels = widths[0]
        skip_channels = [in_channels]  # what conv_in leaves; the blocks put theirs on top
        for i, name in enumerate(config.down_block_types):
            block = self.block_class(name, "Down")(
                in_channels=in_channels,
                out_channels=widths[i],
                num_layers=config.layers_per_block,
                resnet=resnet,
                attention=attentions_at[i],
                add_downsample=i < last,
                downsample_padding=config.downsample_padding,
            )
            self.down_blocks.append(block)
            in_channels = widths[i]
            skip_channels += [in_channels] * (config.layers_per_block + (i < last))

        self.mid_block: nn.Module | None = None
        if config.mid_block_type is not None:
            self.mid_block = self.block_class(config.mid_block_type, "Mid")(
                channels=widths[last], resnet=resnet, attention=attentions_at[last]
            )
        return skip_channels

    def block_class(self, name: str, place: str) -> type[nn.Module]:
        """The class of that name, if it is one for this place: "Down", "Mid" or "Up"."""
        possible = {key: block for key, block in self.blocks.items() if place in key}
        if name not in possible:
            raise ValueError(
                f"{type(self).__name__}: expected one of {', '.join(possible)}, got {name!r}"
            )
        return possible[name]

    def embed_time(
        self, timestep: Tensor | float, batch: int, timestep_cond: Tensor | None = None
    ) -> Tensor:
        """A number, or one per sample -> (batch, temb_channels)."""
        timestep = torch.as_tensor(timestep, device=self.device)
        if timestep.numel() not in (1, batch):
            raise ValueError(
                f"expected one timestep, or one per sample ({batch}), got {tuple(timestep.shape)}"
            )
        sines = self.time_proj(timestep.reshape(-1).expand(batch))
        if timestep_cond is not None:
            timestep_cond = timestep_cond.to(self.dtype)
        return self.time_embedding(sines.to(self.dtype), timestep_cond)

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

    def set_attention_slice(self, slice_size: int | str | None = "auto") -> None:
        """`Attention.set_attention_slice` of every layer."""
        for layer in self.modules():
            if isinstance(layer, Attention):
                layer.set_attention_slice(slice_size)

    def check_sample(self, sample: Tensor) -> None:
        """ValueError unless it is a batch of images with the right channels."""
        channels = self.config.in_channels
        if sample.ndim != 4 or sample.shape[1] != channels or 0 in sample.shape[2:]:
            raise ValueError(f"expected a sample (B, {channels}, H, W), got {tuple(sample.shape)}")
        check_precision(sample, "a sample", self.dtype)


def check_one_number_each(unet: UNetEncoder) -> None:
    """ValueError for lists of different lengths, and for what only later U-Nets have: a number of
    layers, groups or channels for each block."""
    config = unet.config
    blocks = len(config.block_out_channels)
    for key in ("down_block_types", "up_block_types"):
        if key in config and len(config[key]) != blocks:
            raise ValueError(
                f"expected as many {key} as block_out_channels ({blocks}), got {config[key]}"
            )
    for key in (
        "layers_per_block",
        "norm_num_groups",
        "transformer_layers_per_block",
        "cross_attention_dim",
    ):
        if not isinstance(config.get(key, 1), int):
            raise ValueError(
                f"{type(unet).__name__} supports only one number as {key}, got {config[key]!r}"
            )


def layer_options(config: Config) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What all ResNets of a conditional U-Net share, and what the transformers at each width do."""
    heads, widths = config.attention_head_dim, config.block_out_channels
    if isinstance(heads, int):
        heads = (heads,) * len(widths)
    if len(heads) != len(widths):
        raise ValueError(f"expected {len(widths)} values of attention_head_dim, got {heads}")
    resnet = {
        "temb_channels": 4 * widths[0],
        "groups": config.norm_num_groups,
        "eps": config.norm_eps,
        "dropout": config.get("dropout", 0.0),
    }
    attention = {
        "cross_attention_dim": config.cross_attention_dim,
        "num_layers": config.transformer_layers_per_block,
        "norm_num_groups": config.norm_num_groups,
        "use_linear_projection": config.use_linear_projection,
    }
    return resnet, [{**attention, "num_attention_heads": number} for number in heads]


def check_context(context: Tensor, batch: int, dim: int) -> None:
    """ValueError unless the context is (batch, L, dim)."""
    shape = tuple(context.shape)
    if len(shape) != 3 or shape[0] != batch or shape[2] != dim:
        hint = (
            "; a text encoder's answer is the tensor itself, without [0]" if len(shape) < 3 else ""
        )
        raise ValueError(f"expected encoder_hidden_states ({batch}, L, {dim}), got {shape}{hint}")
