"""The autoencoder that takes an image to a small latent and back (Kingma & Welling 2014; Rombach et
al. 2022). Chapter 06."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.configuration.keywords import check_foreign
from minildm.configuration.mixins import ModelMixin, register_to_config
from minildm.models.blocks import DownBlock2D, UNetMidBlock2D
from minildm.models.resnet import ResnetBlock2D, Upsample2D
from minildm.precision import at_least_float32, check_precision


class DownEncoderBlock2D(DownBlock2D):
    """A DownBlock2D that knows no time and keeps no skips."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, temb=None)[0]


class UpDecoderBlock2D(nn.Module):
    """ResNets, then twice the size."""

    def __init__(
        self, in_channels: int, out_channels: int, num_layers: int, resnet: dict, add_upsample: bool
    ):
        super().__init__()
        widths = [in_channels] + num_layers * [out_channels]
        self.resnets = nn.ModuleList(
            ResnetBlock2D(widths[i], widths[i + 1], **resnet) for i in range(num_layers)
        )
        self.upsamplers = nn.ModuleList([Upsample2D(out_channels)] if add_upsample else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in [*self.resnets, *self.upsamplers]:
            x = layer(x)
        return x


BLOCKS = {"DownEncoderBlock2D": DownEncoderBlock2D, "UpDecoderBlock2D": UpDecoderBlock2D}


class Encoder(nn.Module):
    """Image (B, in_channels, H, W) -> mean and log-variance (B, 2·out_channels, H/f, W/f).

    f = 2^(blocks - 1); with `double_z=False` one number each, (B, out_channels, H/f, W/f).
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",),
        block_out_channels: tuple[int, ...] = (64,),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        mid_block_add_attention: bool = True,
        double_z: bool = True,
    ):
        super().__init__()
        widths, last = block_out_channels, len(block_out_channels) - 1
        resnet, attention = shared_options(norm_num_groups, mid_block_add_attention)
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            BLOCKS[name](
                widths[max(i - 1, 0)],
                widths[i],
                layers_per_block,
                resnet,
                add_downsample=i < last,
                downsample_padding=0,
            )
            for i, name in enumerate(down_block_types)
        )
        self.mid_block = UNetMidBlock2D(widths[-1], resnet, attention)
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], (2 if double_z else 1) * out_channels, 3, padding=1)

    def forward(self, sample: Tensor) -> Tensor:
        x = self.conv_in(sample)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latent (B, in_channels, h, w) -> image (B, out_channels, f·h, f·w), f = 2^(blocks - 1)."""

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",),
        block_out_channels: tuple[int, ...] = (64,),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        mid_block_add_attention: bool = True,
    ):
        super().__init__()
        widths, last = block_out_channels[::-1], len(block_out_channels) - 1
        resnet, attention = shared_options(norm_num_groups, mid_block_add_attention)
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.mid_block = UNetMidBlock2D(widths[0], resnet, attention)
        self.up_blocks = nn.ModuleList(
            BLOCKS[name](
                widths[max(i - 1, 0)],
                widths[i],
                layers_per_block + 1,
                resnet,
                add_upsample=i < last,
            )
            for i, name in enumerate(up_block_types)
        )
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, sample: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(sample))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def shared_options(norm_num_groups: int, add_attention: bool) -> tuple[dict, dict | None]:
    """The options of every ResNet, and of the one attention layer (a single head as wide as the
    image is deep)."""
    attention = {"attention_head_dim": None, "norm_num_groups": norm_num_groups, "eps": 1e-6}
    return {"groups": norm_num_groups, "eps": 1e-6}, attention if add_attention else None


def check_block_types(model: ModelMixin) -> None:
    """There is one type of block for the way down and one for the way up; a configuration names it
    for every size."""
    for key, kind in (
        ("down_block_types", "DownEncoderBlock2D"),
        ("up_block_types", "UpDecoderBlock2D"),
    ):
        expected = (kind,) * len(model.config.block_out_channels)
        if model.config[key] != expected:
            raise ValueError(
                f"{type(model).__name__}: expected {key} = {expected}, got {model.config[key]}"
            )


class DiagonalGaussianDistribution:
    """q(z|x) = N(mean, diag(exp(logvar))) from `parameters` (B, 2·C, h, w): means first, then
    log-variances.

    The log-variance is kept within [-30, 20], so that neither it nor its exponential overflows.
    Of parameters in half precision all else is computed in float32, and z is then rounded once.
    """

    def __init__(self, parameters: Tensor):
        self.mean, logvar = parameters.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)

    @property
    def std(self) -> Tensor:
        return self._exact_std().to(self.mean.dtype)

    def _exact_std(self) -> Tensor:
        return torch.exp(0.5 * at_least_float32(self.logvar))

    @property
    def var(self) -> Tensor:
        return torch.exp(at_least_float32(self.logvar))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """z = mean + std·ε, so that gradients reach both (the reparameterisation)."""
        mean = at_least_float32(self.mean)
        device = mean.device if generator is None else generator.device
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=device)
        return (mean + self._exact_std() * noise.to(mean.device)).to(self.mean.dtype)

    def mode(self) -> Tensor:
        """The most likely z, which is the mean."""
        return self.mean

    @property
    def latent_dist(self) -> DiagonalGaussianDistribution:
        """Itself: in diffusers `encode` returns something that holds the distribution."""
        return self

    def kl(self) -> Tensor:
        """KL(q(z|x) || N(0, I)) = ½ Σ (mean² + var - 1 - logvar), one number per image: (B,)."""
        mean = at_least_float32(self.mean)
        return 0.5 * (mean.square() + self.var - 1.0 - self.logvar).flatten(1).sum(dim=1)


class AutoencoderKL(ModelMixin, nn.Module):
    """The `vae` of Stable Diffusion (CompVis: `first_stage_model`): images in [-1, 1] <-> latents.

    The diffusion model sees `(z - shift_factor) · scaling_factor`, which has about unit variance;
    `encode` and `decode` themselves apply neither.
    """

    unsupported = {"act_fn": ("silu", "swish"), "latents_mean": None, "latents_std": None}

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
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        sample_size: int | tuple[int, int] = 32,
        scaling_factor: float = 0.18215,
        shift_factor: float | None = None,
        force_upcast: bool = True,  # a hint to pipelines in float16: decode in float32
        use_quant_conv: bool = True,
        use_post_quant_conv: bool = True,
        mid_block_add_attention: bool = True,
    ):
        super().__init__()
        check_block_types(self)
        if not 0 < scaling_factor < math.inf:
            raise ValueError(f"expected a finite scaling_factor above 0, got {scaling_factor}")
        self.encoder = Encoder(
            in_channels=in_channels,
            out_channels=latent_channels,
            down_block_types=down_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=mid_block_add_attention,
        )
        self.decoder = Decoder(
            in_channels=latent_channels,
            out_channels=out_channels,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=mid_block_add_attention,
        )
        self.quant_conv = (
            nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
            if use_quant_conv
            else nn.Identity()
        )
        self.post_quant_conv = (
            nn.Conv2d(latent_channels, latent_channels, 1) if use_post_quant_conv else nn.Identity()
        )

    @property
    def downscale_factor(self) -> int:
        """How many pixels, each way, one latent pixel stands for."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    def encode(self, x: Tensor, **foreign: object) -> DiagonalGaussianDistribution:
        """x: (B, in_channels, H, W) in [-1, 1], whose sides `downscale_factor` divides."""
        check_foreign("AutoencoderKL.encode", foreign)
        factor, channels = self.downscale_factor, self.config.in_channels
        if x.ndim != 4 or x.shape[1] != channels or 0 in x.shape[2:]:
            raise ValueError(f"expected images (B, {channels}, H, W), got {tuple(x.shape)}")
        check_precision(x, "images", self.dtype)
        height, width = x.shape[2:]
        if height % factor or width % factor:
            raise ValueError(
                f"expected an image whose sides are multiples of {factor}, got {height}x{width}"
            )
        return DiagonalGaussianDistribution(self.quant_conv(self.encoder(x)))

    def decode(self, z: Tensor, **foreign: object) -> Tensor:
        """z: (B, latent_channels, h, w) -> images (B, out_channels, f·h, f·w), about [-1, 1], not
        clamped."""
        check_foreign("AutoencoderKL.decode", foreign)
        if z.ndim != 4 or z.shape[1] != self.config.latent_channels or 0 in z.shape[2:]:
            raise ValueError(
                f"expected latents (B, {self.config.latent_channels}, h, w), got {tuple(z.shape)}"
            )
        check_precision(z, "latents", self.dtype)
        return self.decoder(self.post_quant_conv(z))

    def forward(
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """There and back, through the mean or through a random z."""
        posterior = self.encode(sample)
        return self.decode(posterior.sample(generator) if sample_posterior else posterior.mode())


def with_scaling_factor(vae: AutoencoderKL, scaling_factor: float) -> AutoencoderKL:
    """The same autoencoder, which remembers by what its latents are multiplied to have unit
    variance."""
    scaled = AutoencoderKL.from_config(vae.config, scaling_factor=scaling_factor)
    scaled.load_state_dict(vae.state_dict())
    return scaled.eval().to(vae.device)
