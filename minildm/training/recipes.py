"""Recipes: which data, networks and numbers make a model; `runs.py` follows them.
Chapters 11 and 17."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import nn

from minildm.models.unet import UNet2DConditionModel
from minildm.text.text_encoder import CLIPTextModel
from minildm.text.tokenizer import CLIPTokenizer
from minildm.training.batches import Batch
from minildm.training.trainer import Trainer

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class StageRecipe:
    """How one network of the chain is trained."""

    share: float  # of the time
    learning_rate: float  # at its peak
    batch_size: int
    weight_decay: float = 0.01
    ema: float = 0.0  # the average of the weights reaches over this part of the steps; 0 for none


@dataclass(frozen=True)
class Recipe:
    """All that training needs to know but the seed and the number of steps. Its defaults come from
    the sweeps in benchmarks/README.md.

    First the data, then how each of the three stages is trained, then the networks' configurations.
    """

    dataset: str = "mnist"
    image_size: int = 28  # the data's own; they are padded to the autoencoder's sample_size
    num_images: int | None = None  # only so many; None for all
    full: bool = False  # all of CIFAR-10, not its bundled tenth (`minildm data cifar10` brings it)

    perceptual_net: StageRecipe = StageRecipe(share=0.04, learning_rate=5e-3, batch_size=64)
    autoencoder: StageRecipe = StageRecipe(share=0.34, learning_rate=3e-3, batch_size=32)
    denoiser: StageRecipe = StageRecipe(share=0.62, learning_rate=2e-3, batch_size=64, ema=0.05)
    held_out: int = 0  # pictures that the perceptual net does not see, to say how good it is
    augmented: bool = False  # those it sees are mirrored and shifted, as photographs may be
    perceptual_weight: float = 0.3
    kl_weight: float = 5e-3
    discriminator_weight: float = 0.0  # 0: the autoencoder has no discriminator
    discriminator_width: int = 32
    discriminator_start: float = 0.5  # the part of the steps after which the decoder hears of it
    prompt_dropout: float = 0.1  # how often the U-Net sees no prompt, which guidance needs

    guidance_scale: float = 1.75  # this and the next are what drawings are scored at
    num_inference_steps: int = 10

    classifier: dict[str, Any] = field(  # the perceptual net's
        default_factory=lambda: {
            "sample_size": 32,
            "block_out_channels": (8, 16, 32),
            "feature_dim": 32,
        }
    )
    vae: dict[str, Any] = field(
        default_factory=lambda: {
            "sample_size": 32,
            "in_channels": 1,
            "out_channels": 1,
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            # few where the picture is large: that is where the time goes
            "block_out_channels": (8, 16, 32, 64),
            "latent_channels": 8,
            "norm_num_groups": 8,
            "mid_block_add_attention": False,
        }
    )
    text_encoder: dict[str, Any] = field(
        default_factory=lambda: {
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 16,
        }
    )
    unet: dict[str, Any] = field(
        default_factory=lambda: {
            "sample_size": 4,
            "block_out_channels": (48, 96),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 4,
            "norm_num_groups": 8,
        }
    )
    scheduler: dict[str, Any] = field(
        default_factory=lambda: {
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": "v_prediction",
            # Begins a little below the noisiest timestep: as many digits are right, and they are
            # more varied.
            "timestep_spacing": "leading",
        }
    )


MNIST = Recipe()

# Places and words: latents twice as fine, so that attention can point at a digit, and captions of
# twenty words.
SCENES = Recipe(
    dataset="scenes",
    image_size=32,
    denoiser=replace(MNIST.denoiser, learning_rate=1.5e-3),
    kl_weight=1e-3,
    guidance_scale=4.0,
    classifier={
        "sample_size": 32,
        "in_channels": 3,
        "num_classes": 60,
        "block_out_channels": (16, 32, 64),
    },
    vae={
        **MNIST.vae,
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (16, 32, 64),
    },
    text_encoder={
        **MNIST.text_encoder,
        "hidden_size": 96,
        "intermediate_size": 384,
        "max_position_embeddings": 32,
    },
    unet={
        **MNIST.unet,
        "sample_size": 8,
        "down_block_types": ("CrossAttnDownBlock2D",) * 2,
        "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    },
    scheduler={**MNIST.scheduler, "timestep_spacing": "trailing"},
)

# The latents and the U-Net of `scenes` on photographs, with captions that name the class.
CIFAR10 = Recipe(
    dataset="cifar10",
    full=True,
    image_size=32,
    denoiser=SCENES.denoiser,
    kl_weight=1e-3,
    guidance_scale=7.0,
    classifier={"sample_size": 32, "in_channels": 3, "block_out_channels": (16, 32, 64)},
    vae=SCENES.vae,
    unet=SCENES.unet,
)

# Clothing: grey like digits, with more in it, so latents twice as fine.
FASHION_MNIST = Recipe(
    dataset="fashion_mnist",
    denoiser=SCENES.denoiser,
    kl_weight=1e-3,
    guidance_scale=2.0,
    vae={**SCENES.vae, "in_channels": 1, "out_channels": 1},
    unet=SCENES.unet,
)

# Pictures of one's own, 32 or 64 pixels wide: `own_pictures.py` fits the rest to them. At 64 both
# networks have a level more. The autoencoder's is of few channels, so that a picture costs a third
# more than one at 32; the latents are as large, so the U-Net's costs next to nothing.
OWN_PICTURES = "own pictures"
OWN_32 = replace(SCENES, dataset=OWN_PICTURES, guidance_scale=2.0)
OWN_64 = replace(
    OWN_32,
    image_size=64,
    autoencoder=replace(OWN_32.autoencoder, batch_size=16),
    denoiser=replace(OWN_32.denoiser, batch_size=32),
    classifier={**SCENES.classifier, "sample_size": 64, "block_out_channels": (8, 16, 32, 64)},
    vae={
        **SCENES.vae,
        "sample_size": 64,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (8, 16, 32, 64),
    },
    unet={
        **SCENES.unet,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3,
        "up_block_types": ("CrossAttnUpBlock2D",) * 3,
        "block_out_channels": (48, 96, 96),
    },
)

# The whole chain in seconds, to see that it works; what it draws is noise.
TINY = Recipe(
    num_images=500,
    perceptual_net=replace(MNIST.perceptual_net, batch_size=16),
    autoencoder=replace(MNIST.autoencoder, batch_size=16),
    denoiser=replace(MNIST.denoiser, batch_size=16),
    classifier={"sample_size": 32, "block_out_channels": (4, 4, 4), "feature_dim": 8},
    vae={
        **MNIST.vae,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (4, 8),
        "norm_num_groups": 4,
    },
    text_encoder={
        **MNIST.text_encoder,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
    },
    unet={
        **MNIST.unet,
        "sample_size": 16,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
    },
)

PRESETS = {
    "mnist": MNIST,
    "fashion_mnist": FASHION_MNIST,
    "scenes": SCENES,
    "cifar10": CIFAR10,
    "tiny": TINY,
}


def preset(name: str) -> Recipe:
    """One of PRESETS; a ValueError lists them."""
    if name not in PRESETS:
        raise ValueError(f"expected a preset of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def seeded(seed: int, model: Callable[..., Model], config: Mapping[str, Any]) -> Model:
    """A model with random weights that the seed alone determines."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model(**config)


def new_trainer(
    name: str, stage: StageRecipe, loss: nn.Module, batches: Callable[[int], Batch]
) -> Trainer:
    """The trainer of one stage, as its recipe says."""
    return Trainer(
        name,
        loss,
        batches,
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        ema=stage.ema,
    )


def new_denoiser(
    recipe: Recipe, texts: Iterable[str], latent_channels: int, seed: int
) -> tuple[CLIPTokenizer, CLIPTextModel, UNet2DConditionModel]:
    """A tokenizer of the texts' words, and a text encoder and a U-Net that fit it and the
    latents."""
    length = recipe.text_encoder["max_position_embeddings"]
    tokenizer = CLIPTokenizer.train(texts, model_max_length=length)
    ids = {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text_encoder = seeded(seed, CLIPTextModel, {**recipe.text_encoder, **ids})
    sizes = {
        "in_channels": latent_channels,
        "out_channels": latent_channels,
        "cross_attention_dim": text_encoder.config.hidden_size,
    }
    return tokenizer, text_encoder, seeded(seed, UNet2DConditionModel, {**recipe.unet, **sizes})
