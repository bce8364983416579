"""The networks: U-Net, transformer, autoencoder, classifier."""

from minildm.models.attention import (
    Attention,
    BasicTransformerBlock,
    FeedForward,
    ImageAttention,
    Transformer2DModel,
    image_to_tokens,
    tokens_to_image,
)
from minildm.models.autoencoder import (
    AutoencoderKL,
    Decoder,
    DiagonalGaussianDistribution,
    DownEncoderBlock2D,
    Encoder,
    UpDecoderBlock2D,
    with_scaling_factor,
)
from minildm.models.blocks import (
    AttnDownBlock2D,
    AttnUpBlock2D,
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    NoAttention,
    UNetMidBlock2D,
    UNetMidBlock2DCrossAttn,
    UpBlock2D,
)
from minildm.models.classifier import ConvBlock, ImageClassifier, extract, jitter, shift_and_mirror
from minildm.models.dit import (
    AdaLayerNormZero,
    CombinedTimestepLabelEmbeddings,
    DiTBlock,
    DiTTransformer2DModel,
    GELUFeedForward,
    LabelEmbedding,
    PatchEmbed,
    get_2d_sincos_pos_embed,
)
from minildm.models.embeddings import (
    TimestepEmbedding,
    Timesteps,
    get_guidance_scale_embedding,
    get_timestep_embedding,
)
from minildm.models.mlp import ToyDenoiser
from minildm.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from minildm.models.unet import UNet2DConditionModel, UNet2DModel, UNetBase
from minildm.models.unet_encoder import UNetEncoder
from minildm.models.vq import Quantized, VectorQuantizer, VQModel

__all__ = [
    "AdaLayerNormZero",
    "Attention",
    "AttnDownBlock2D",
    "AttnUpBlock2D",
    "AutoencoderKL",
    "BasicTransformerBlock",
    "CombinedTimestepLabelEmbeddings",
    "ConvBlock",
    "CrossAttnDownBlock2D",
    "CrossAttnUpBlock2D",
    "Decoder",
    "DiTBlock",
    "DiTTransformer2DModel",
    "DiagonalGaussianDistribution",
    "DownBlock2D",
    "DownEncoderBlock2D",
    "Downsample2D",
    "Encoder",
    "FeedForward",
    "GELUFeedForward",
    "ImageAttention",
    "ImageClassifier",
    "LabelEmbedding",
    "NoAttention",
    "PatchEmbed",
    "Quantized",
    "ResnetBlock2D",
    "TimestepEmbedding",
    "Timesteps",
    "ToyDenoiser",
    "Transformer2DModel",
    "UNet2DConditionModel",
    "UNet2DModel",
    "UNetBase",
    "UNetEncoder",
    "UNetMidBlock2D",
    "UNetMidBlock2DCrossAttn",
    "UpBlock2D",
    "UpDecoderBlock2D",
    "Upsample2D",
    "VQModel",
    "VectorQuantizer",
    "extract",
    "get_2d_sincos_pos_embed",
    "get_guidance_scale_embedding",
    "get_timestep_embedding",
    "image_to_tokens",
    "jitter",
    "shift_and_mirror",
    "tokens_to_image",
    "with_scaling_factor",
]
