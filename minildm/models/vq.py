"""The autoencoder whose latent is made of words from a learnt codebook (van den Oord et al. 2017).
Chapter 06."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.configuration.mixins import ModelMixin, register_to_config
from minildm.models.autoencoder import Decoder, Encoder, check_block_types


class Quantized(NamedTuple):
    """What the codebook makes of z (B, D, h, w)."""

    latents: Tensor
    """(B, D, h, w): each place's nearest word; its gradient goes to z as if nothing had
    happened."""
    loss: Tensor
    """(): how far z and its words lie apart, which draws each to the other."""
    indices: Tensor
    """(B, h, w) int: which word it is."""


class VectorQuantizer(nn.Module):
    """Each place's D numbers replaced by the nearest of `n_e` learnt words.

    Van den Oord et al. 2017, eq. 1 to 3. The loss is mean(z - sg(word))² plus
    beta·mean(sg(z) - word)², sg: no gradient. The paper has the beta before the first term;
    diffusers and CompVis have it here, and checkpoints are trained with theirs.
    """

    def __init__(self, n_e: int, vq_embed_dim: int, beta: float = 0.25):
        super().__init__()
        self.beta = beta
        self.embedding = nn.Embedding(n_e, vq_embed_dim)
        nn.init.uniform_(self.embedding.weight, -1 / n_e, 1 / n_e)

    def forward(self, z: Tensor) -> Quantized:
        last = z.permute(0, 2, 3, 1)
        # from differences: by torch's matrix product, as diffusers has it, rounding decides between
        # words that lie close together
        distances = torch.cdist(
            last.flatten(0, 2), self.embedding.weight, compute_mode="donot_use_mm_for_euclid_dist"
        )
        indices = distances.argmin(1).view(last.shape[:3])
        words = self.embedding(indices).permute(0, 3, 1, 2)
        loss = F.mse_loss(z, words.detach()) + self.beta * F.mse_loss(words, z.detach())
        latents = z + (words - z).detach()  # straight through
        # The encoder's attention leaves channels-last; diffusers goes on channels-first from here,
        # and the other layout's convolutions round differently.
        return Quantized(latents.contiguous(), loss, indices)


class VQModel(ModelMixin, nn.Module):
    """Images in [-1, 1] <-> words of a codebook.

    (B, in_channels, H, W) <-> (B, vq_embed_dim, H/f, W/f), f = 2^(blocks - 1).
    """

    unsupported = {
        "act_fn": ("silu", "swish"),
        "norm_type": ("group",),
        "lookup_from_codebook": (False,),
        "force_upcast": (False,),
    }

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",),
        up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",),
        block_out_channels: tuple[int, ...] = (64,),
        layers_per_block: int = 1,
        *,
        latent_channels: int = 3,
        sample_size: int = 32,
        num_vq_embeddings: int = 256,
        norm_num_groups: int = 32,
        vq_embed_dim: int | None = None,
        scaling_factor: float = 0.18215,
        mid_block_add_attention: bool = True,
    ):
        super().__init__()
        check_block_types(self)
        width = latent_channels if vq_embed_dim is None else vq_embed_dim
        self.encoder = Encoder(
            in_channels=in_channels,
            out_channels=latent_channels,
            down_block_types=down_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=mid_block_add_attention,
            double_z=False,
        )
        self.quant_conv = nn.Conv2d(latent_channels, width, 1)
        self.quantize = VectorQuantizer(num_vq_embeddings, width)
        self.post_quant_conv = nn.Conv2d(width, latent_channels, 1)
        self.decoder = Decoder(
            in_channels=latent_channels,
            out_channels=out_channels,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=mid_block_add_attention,
        )

    def encode(self, x: Tensor) -> Tensor:
        """x: (B, in_channels, H, W) -> z (B, vq_embed_dim, H/f, W/f), which `quantize` has still to
        quantise."""
        factor, channels = 2 ** (len(self.config.block_out_channels) - 1), self.config.in_channels
        sides = x.shape[2:]
        if x.ndim != 4 or x.shape[1] != channels or any(n % factor or n == 0 for n in sides):
            raise ValueError(
                f"expected images (B, {channels}, H, W), sides multiples of {factor}, "
                f"got {tuple(x.shape)}"
            )
        return self.quant_conv(self.encoder(x))

    def decode(self, z: Tensor, force_not_quantize: bool = False) -> Tensor:
        """z: (B, vq_embed_dim, h, w), quantised here if it is not to be left as it is.

        Returns images (B, out_channels, f·h, f·w).
        """
        width = self.post_quant_conv.in_channels
        if z.ndim != 4 or z.shape[1] != width or 0 in z.shape[2:]:
            raise ValueError(f"expected latents (B, {width}, h, w), got {tuple(z.shape)}")
        return self.decoder(
            self.post_quant_conv(z if force_not_quantize else self.quantize(z).latents)
        )

    def forward(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        """There and back, and the codebook's loss: (B, out_channels, H, W), ()."""
        quantized = self.quantize(self.encode(sample))
        return self.decode(quantized.latents, force_not_quantize=True), quantized.loss
