"""A transformer in the U-Net's place: patches of the latent are its words, and time and class steer
every block through its normalisation (Peebles & Xie 2023). Chapter 14."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.configuration.mixins import ModelMixin, register_to_config
from minildm.models.attention import Attention, FeedForward
from minildm.models.embeddings import TimestepEmbedding, Timesteps, rows_of


def get_2d_sincos_pos_embed(embed_dim: int, grid_size: int) -> Tensor:
    """Where each cell of a grid is: sines and cosines of its column, then of its row.

    (grid_size², embed_dim), float64. Each half is [sin(p·w_i), cos(p·w_i)] with
    w_i = 10000^(-4i / embed_dim), as in Vaswani et al. 2017.
    """
    frequencies = torch.exp(
        -math.log(10000) * torch.arange(embed_dim // 4, dtype=torch.float64) * 4 / embed_dim
    )
    row, column = torch.meshgrid(*2 * [torch.arange(grid_size, dtype=torch.float64)], indexing="ij")
    angles = [place.reshape(-1, 1) * frequencies for place in (column, row)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


class PatchEmbed(nn.Module):
    """Patches as tokens, row by row, with their place.

    (B, in_channels, H, W) -> (B, H·W / patch_size², embed_dim).
    """

    def __init__(self, sample_size: int, patch_size: int, in_channels: int, embed_dim: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size)
        place = get_2d_sincos_pos_embed(embed_dim, sample_size // patch_size).float()
        self.register_buffer("pos_embed", place[None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2) + self.pos_embed


class LabelEmbedding(nn.Module):
    """A vector for each class, and one more for none.

    class_labels: (B,), num_classes for none -> (B, D). Which labels a training drops, so that
    guidance has something to guide from, is for its batches to say.
    """

    def __init__(self, num_classes: int, hidden_size: int):
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + 1, hidden_size)

    def forward(self, class_labels: Tensor) -> Tensor:
        return rows_of(self.embedding_table, class_labels, "class_labels")


class CombinedTimestepLabelEmbeddings(nn.Module):
    """Time and class as one vector: (B,), (B,) -> (B, embedding_dim)."""

    def __init__(self, num_classes: int, embedding_dim: int):
        super().__init__()
        self.time_proj = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=1)
        self.timestep_embedder = TimestepEmbedding(256, embedding_dim)
        self.class_embedder = LabelEmbedding(num_classes, embedding_dim)

    def forward(self, timestep: Tensor, class_labels: Tensor) -> Tensor:
        frequencies = self.time_proj(timestep).to(self.class_embedder.embedding_table.weight.dtype)
        return self.timestep_embedder(frequencies) + self.class_embedder(class_labels)


class AdaLayerNormZero(nn.Module):
    """A layer norm without weights of its own: time and class give the shift, the scale, and the
    gate that the branch behind it passes; once for attention, once for the feed-forward layer.
    Peebles & Xie 2023, section 3.2.

    Returns the normalised tokens (B, N, D), then gate, shift, scale, gate, each (B, 1, D).
    """

    def __init__(self, embedding_dim: int, num_classes: int):
        super().__init__()
        self.emb = CombinedTimestepLabelEmbeddings(num_classes, embedding_dim)
        self.linear = nn.Linear(embedding_dim, 6 * embedding_dim)
        self.norm = nn.LayerNorm(embedding_dim, eps=1e-6, elementwise_affine=False)

    def forward(self, x: Tensor, timestep: Tensor, class_labels: Tensor) -> tuple[Tensor, ...]:
        said = self.linear(F.silu(self.emb(timestep, class_labels)))[:, None]
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = said.chunk(6, dim=-1)
        return modulate(self.norm(x), shift, scale), gate, shift_mlp, scale_mlp, gate_mlp


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x·(1 + scale) + shift; tokens (B, N, D), the others (B, 1, D)."""
    return x * (1 + scale) + shift


class GELU(nn.Module):
    """Linear, then GELU in its tanh form."""

    def __init__(self, dim_in: int, dim_out: int):
        super().__init__()
        self.proj = nn.Linear(dim_in, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class GELUFeedForward(FeedForward):
    """To four times the width through GELU, without a gate, and back."""

    def __init__(self, dim: int):
        super().__init__(dim)
        self.net[0] = GELU(dim, 4 * dim)


class DiTBlock(nn.Module):
    """Attention and feed-forward, each normalised, modulated, gated and added.

    Tokens (B, N, D) -> (B, N, D). The gates begin at zero, so the block begins as the identity.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        dim_head: int,
        num_classes: int,
        bias: bool,
        affine: bool,
        eps: float,
    ):
        super().__init__()
        self.norm1 = AdaLayerNormZero(dim, num_classes)
        self.attn1 = Attention(dim, heads, dim_head, bias=bias)
        # a norm2 would stand before cross-attention
        self.norm3 = nn.LayerNorm(dim, eps, elementwise_affine=affine)
        self.ff = GELUFeedForward(dim)

    def forward(self, x: Tensor, timestep: Tensor, class_labels: Tensor) -> Tensor:
        normed, gate, shift_mlp, scale_mlp, gate_mlp = self.norm1(x, timestep, class_labels)
        x = x + gate * self.attn1(normed)
        return x + gate_mlp * self.ff(modulate(self.norm3(x), shift_mlp, scale_mlp))


class DiTTransformer2DModel(ModelMixin, nn.Module):
    """The diffusion transformer: patches, blocks, patches. It is told the time and a class.

    As in diffusers every block has an embedding of time and class of its own; the paper's blocks
    share one, so a checkpoint of the paper's has it as often as there are blocks.
    """

    unsupported = {
        "dropout": 0.0,
        "activation_fn": "gelu-approximate",
        "norm_type": "ada_norm_zero",
        "norm_num_groups": ...,  # there is no group norm in it
        "upcast_attention": ...,  # about overflow in float16 only
    }

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 16,
        attention_head_dim: int = 72,
        in_channels: int = 4,
        out_channels: int | None = None,
        num_layers: int = 28,
        *,
        attention_bias: bool = True,
        sample_size: int = 32,
        patch_size: int = 2,
        num_embeds_ada_norm: int = 1000,
        norm_elementwise_affine: bool = False,
        norm_eps: float = 1e-5,
    ):
        super().__init__()
        dim = num_attention_heads * attention_head_dim
        if dim % 4 or sample_size % patch_size or num_layers < 1:
            raise ValueError(
                "expected num_attention_heads x attention_head_dim a multiple of 4, sample_size "
                "one of patch_size, and a layer at least, "
                f"got {dim}, {sample_size} and {patch_size}, {num_layers}"
            )
        self.pos_embed = PatchEmbed(sample_size, patch_size, in_channels, dim)
        self.transformer_blocks = nn.ModuleList(
            DiTBlock(
                dim=dim,
                heads=num_attention_heads,
                dim_head=attention_head_dim,
                num_classes=num_embeds_ada_norm,
                bias=attention_bias,
                affine=norm_elementwise_affine,
                eps=norm_eps,
            )
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.proj_out_1 = nn.Linear(dim, 2 * dim)
        self.proj_out_2 = nn.Linear(dim, patch_size**2 * (out_channels or in_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The paper's first weights: every branch and the output begin at zero."""
        for layer in self.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                # a view: a convolution of patches is a linear layer
                nn.init.xavier_uniform_(layer.weight.flatten(1))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, CombinedTimestepLabelEmbeddings):
                nn.init.normal_(layer.class_embedder.embedding_table.weight, std=0.02)
        for layer in self.modules():
            if isinstance(layer, AdaLayerNormZero):
                nn.init.zeros_(layer.linear.weight)
        nn.init.zeros_(self.proj_out_1.weight)
        nn.init.zeros_(self.proj_out_2.weight)

    def forward(
        self, hidden_states: Tensor, timestep: Tensor | float, class_labels: Tensor
    ) -> Tensor:
        """hidden_states: (B, in_channels, sample_size, sample_size); timestep: a number or (B,);
        class_labels: (B,) int, num_embeds_ada_norm for no class.

        Returns (B, out_channels, sample_size, sample_size).
        """
        config, batch = self.config, len(hidden_states)
        expected = (config.in_channels, config.sample_size, config.sample_size)
        if hidden_states.shape[1:] != expected:
            raise ValueError(
                f"expected hidden_states (B, {', '.join(map(str, expected))}), "
                f"got {tuple(hidden_states.shape)}"
            )
        timestep = torch.as_tensor(timestep, device=self.device)
        if timestep.numel() not in (1, batch) or class_labels.shape != (batch,):
            got = f"{tuple(timestep.shape)} and {tuple(class_labels.shape)}"
            raise ValueError(
                f"expected one timestep, or one per sample, and a label each ({batch}), got {got}"
            )
        told = timestep.reshape(-1).expand(batch), class_labels

        x = self.pos_embed(hidden_states)
        for block in self.transformer_blocks:
            x = block(x, *told)
        conditioning = self.get_submodule("transformer_blocks.0.norm1.emb")(*told)
        shift, scale = self.proj_out_1(F.silu(conditioning))[:, None].chunk(2, dim=-1)
        x = self.proj_out_2(modulate(self.norm_out(x), shift, scale))
        return self.unpatchify(x)

    def unpatchify(self, x: Tensor) -> Tensor:
        """Tokens (B, N, patch_size²·C) -> (B, C, H, W); the channels of a pixel lie together in a
        token."""
        cells, p = self.config.sample_size // self.config.patch_size, self.config.patch_size
        x = x.unflatten(2, (p, p, -1)).unflatten(1, (cells, cells))  # (B, row, column, p, p, C)
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
