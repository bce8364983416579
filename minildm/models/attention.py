"""Attention, and the transformer that lets an image read a text (Vaswani et al. 2017; Rombach et
al. 2022). Chapters 08, 09 and 19."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.precision import at_least_float32


class Attention(nn.Module):
    """softmax(q·kᵀ/√d)·v in `heads` independent parts; self-attention without a context, else
    cross-attention.

    hidden_states: (B, N, query_dim); encoder_hidden_states: (B, L, cross_attention_dim). Returns
    (B, N, query_dim). With `norm_num_groups` it is the attention block of autoencoder and
    unconditional U-Net: it takes an image (B, query_dim, H, W), normalises it, attends from pixel
    to pixel and adds the result to the image.
    """

    def __init__(
        self,
        query_dim: int,
        heads: int = 8,
        dim_head: int = 64,
        cross_attention_dim: int | None = None,
        bias: bool = False,
        norm_num_groups: int | None = None,
        eps: float = 1e-5,
    ):
        super().__init__()
        self.heads = heads
        self.slice_size: int | None = None
        context_dim = cross_attention_dim or query_dim
        self.group_norm = nn.GroupNorm(norm_num_groups, query_dim, eps) if norm_num_groups else None
        self.to_q = nn.Linear(query_dim, heads * dim_head, bias=bias)
        self.to_k = nn.Linear(context_dim, heads * dim_head, bias=bias)
        self.to_v = nn.Linear(context_dim, heads * dim_head, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(heads * dim_head, query_dim)])

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None) -> Tensor:
        if self.group_norm is not None:
            tokens = self.group_norm(image_to_tokens(hidden_states).mT).mT
            # A sum takes the memory layout of its first term: in this order, as in diffusers,
            # channels-last.
            return tokens_to_image(self.attend(tokens, tokens), hidden_states.shape) + hidden_states
        return self.attend(
            hidden_states, hidden_states if encoder_hidden_states is None else encoder_hidden_states
        )

    def attend(self, x: Tensor, context: Tensor) -> Tensor:
        """x: (B, N, query_dim); context: (B, L, cross_attention_dim) -> (B, N, query_dim)."""
        q, k = self.queries_and_keys(x, context)  # (B, heads, N, d), (B, heads, L, d)
        v = self.split_heads(self.to_v(context))  # (B, heads, L, d)
        if self.slice_size is None:
            attended = F.scaled_dot_product_attention(q, k, v)  # (B, heads, N, d)
        else:
            attended = self.attend_in_slices(q, k, v, self.slice_size)  # (B, heads, N, d)
        side_by_side = attended.transpose(1, 2).flatten(2)  # (B, N, heads·d)
        return self.to_out[0](side_by_side)  # (B, N, query_dim)

    def queries_and_keys(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """What each token of x asks, (B, heads, N, d), and what the context's answer to,
        (B, heads, L, d)."""
        if len(context) != len(x):
            raise ValueError(f"expected a context for each of {len(x)} samples, got {len(context)}")
        return self.split_heads(self.to_q(x)), self.split_heads(self.to_k(context))

    def attend_in_slices(self, q: Tensor, k: Tensor, v: Tensor, slice_size: int) -> Tensor:
        """The same with `slice_size` heads at a time; q, k, v: (B, heads, N or L, d)."""
        in_a_row = [y.flatten(0, 1)[None] for y in (q, k, v)]  # (1, B·heads, N or L, d)
        slices = zip(*(y.split(slice_size, dim=1) for y in in_a_row), strict=True)
        attended = [F.scaled_dot_product_attention(*slice) for slice in slices]
        return torch.cat(attended, dim=1).view_as(q)

    def set_attention_slice(self, slice_size: int | str | None = "auto") -> None:
        """Attend for so many heads at a time: "auto" half of them, "max" one by one, None all at
        once again.

        The result is the same. The memory is less where the table of all weights, (B, heads, N, L),
        is written down; a fused kernel, which never writes it, has nothing to save.
        """
        named = {"auto": max(1, self.heads // 2), "max": 1, None: None}
        if slice_size not in named and not (
            isinstance(slice_size, int) and 1 <= slice_size <= self.heads
        ):
            raise ValueError(
                f'expected a slice_size of "auto", "max", None or 1 to {self.heads}, '
                f"got {slice_size!r}"
            )
        self.slice_size = named.get(slice_size, slice_size)

    def split_heads(self, x: Tensor) -> Tensor:
        """(B, N, heads·d) -> (B, heads, N, d)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def get_attention_scores(self, x: Tensor, context: Tensor) -> Tensor:
        """The weights softmax(q·kᵀ/√d), to look at: (B, heads, N, L), each row sums to 1; in
        float32, whatever the layer is in.

        A forward hook of a cross-attention layer (`attn2`) is told the layer and the arguments of
        every call: `maps.append(layer.get_attention_scores(*args))` in it keeps the weights.
        """
        q, k = map(at_least_float32, self.queries_and_keys(x, context))
        return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)


class ImageAttention(Attention):
    """The attention of autoencoder and unconditional U-Net, from pixel to pixel of an image.

    (B, channels, H, W) -> (B, channels, H, W). Each head gets `attention_head_dim` channels; None:
    one head gets all of them.
    """

    def __init__(
        self, channels: int, attention_head_dim: int | None, norm_num_groups: int, eps: float
    ):
        dim_head = attention_head_dim or channels
        if dim_head > channels:
            raise ValueError(
                f"expected an attention_head_dim of at most {channels}, the channels, "
                f"got {dim_head}"
            )
        super().__init__(
            query_dim=channels,
            heads=channels // dim_head,
            dim_head=dim_head,
            bias=True,
            norm_num_groups=norm_num_groups,
            eps=eps,
        )


class GEGLU(nn.Module):
    """A linear layer whose one half, through GELU, gates the other (Shazeer 2020)."""

    def __init__(self, dim_in: int, dim_out: int):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU to four times the width, and back. (`net.1` is diffusers' dropout, which has no
    weights.)"""

    def __init__(self, dim: int):
        super().__init__()
        self.net = nn.ModuleList([GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention to the context, feed-forward; each normalises its input and
    adds to it.

    hidden_states: (B, N, dim); encoder_hidden_states: (B, L, cross_attention_dim).
    """

    def __init__(
        self, dim: int, num_attention_heads: int, attention_head_dim: int, cross_attention_dim: int
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, num_attention_heads, attention_head_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = Attention(dim, num_attention_heads, attention_head_dim, cross_attention_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        x = hidden_states
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), encoder_hidden_states)
        return x + self.ff(self.norm3(x))


class Transformer2DModel(nn.Module):
    """Transformer blocks over the pixels of an image (B, in_channels, H, W), added to it.

    The projections in and out are 1x1 convolutions in Stable Diffusion 1.x and linear layers in 2.x
    (`use_linear_projection`): the same map, stored differently.
    """

    def __init__(
        self,
        in_channels: int,
        num_attention_heads: int,
        cross_attention_dim: int,
        num_layers: int = 1,
        norm_num_groups: int = 32,
        use_linear_projection: bool = False,
    ):
        super().__init__()
        if in_channels % num_attention_heads:
            raise ValueError(
                f"expected channels that {num_attention_heads} heads divide, got {in_channels}"
            )
        head_dim = in_channels // num_attention_heads
        projection = nn.Linear if use_linear_projection else partial(nn.Conv2d, kernel_size=1)
        self.norm = nn.GroupNorm(norm_num_groups, in_channels, eps=1e-6)
        self.proj_in = projection(in_channels, in_channels)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(in_channels, num_attention_heads, head_dim, cross_attention_dim)
            for _ in range(num_layers)
        )
        self.proj_out = projection(in_channels, in_channels)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        x = image_to_tokens(self.norm(hidden_states))  # (B, H·W, in_channels)
        x = project(self.proj_in, x)
        for block in self.transformer_blocks:
            x = block(x, encoder_hidden_states)
        x = project(self.proj_out, x)
        return hidden_states + tokens_to_image(x, hidden_states.shape)


def project(layer: nn.Linear | nn.Conv2d, tokens: Tensor) -> Tensor:
    """A linear layer, or a 1x1 convolution, on tokens (B, N, C) -> (B, N, D)."""
    weight = layer.weight.flatten(1)  # (D, C), or (D, C, 1, 1) without its last two
    return F.linear(tokens, weight, layer.bias)


def image_to_tokens(image: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H·W, C), one token a pixel, row by row; a view if the image is
    channels-last."""
    return image.permute(0, 2, 3, 1).flatten(1, 2)


def tokens_to_image(tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(B, H·W, C) -> (B, C, H, W) for an image of that `shape`; a view, channels-last."""
    return tokens.unflatten(1, shape[2:]).permute(0, 3, 1, 2)
