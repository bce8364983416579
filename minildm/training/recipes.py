"""Recipes: which data, networks and numbers make a model. `runs.py` follows them. Chapters 11
and 17."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from minildm.models.classifier import jitter, shift_and_mirror


@dataclass(frozen=True)
class Recipe:
    """All that training needs to know but the seed and the number of steps. Its defaults come from
    the sweeps in benchmarks/README.md; tuples have one entry a stage: critic, autoencoder,
    denoiser."""

    dataset: str = "mnist"
    image_size: int = 28  # the data's own; they are padded to the autoencoder's sample_size
    num_images: int | None = None  # only so many; None for all
    full: bool = False  # all of CIFAR-10, not its bundled tenth (`minildm data cifar10` brings it)
    shares: tuple[float, float, float] = (0.04, 0.34, 0.62)  # of the time
    learning_rates: tuple[float, float, float] = (5e-3, 3e-3, 2e-3)
    batch_sizes: tuple[int, int, int] = (64, 32, 64)
    perceptual_weight: float = 0.3
    kl_weight: float = 5e-3
    prompt_dropout: float = (
        0.1  # how often the U-Net trains without its prompt, which guidance needs
    )
    ema: float = 0.05  # the average of the U-Net's weights reaches over this part of the steps
    guidance_scale: float = 1.75  # this and the next are what drawings are scored at
    num_inference_steps: int = 10
    critic: dict[str, Any] = field(
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
            "block_out_channels": (
                8,
                16,
                32,
                64,
            ),  # few where the picture is large: that is where the time goes
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


# Places and words: latents twice as fine, so that attention can point at a digit, and captions of
# twenty words.
SCENES = Recipe(
    dataset="scenes",
    image_size=32,
    learning_rates=(5e-3, 3e-3, 1.5e-3),
    kl_weight=1e-3,
    guidance_scale=4.0,
    scheduler={**Recipe().scheduler, "timestep_spacing": "trailing"},
    critic={
        "sample_size": 32,
        "in_channels": 3,
        "num_classes": 60,
        "block_out_channels": (16, 32, 64),
    },
    vae={**Recipe().vae, "in_channels": 3, "out_channels": 3, "block_out_channels": (16, 32, 64)}
    | {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    | {"latent_channels": 8},
    text_encoder={**Recipe().text_encoder, "hidden_size": 96, "intermediate_size": 384}
    | {"max_position_embeddings": 32},
    unet={**Recipe().unet, "sample_size": 8}
    | {
        "down_block_types": ("CrossAttnDownBlock2D",) * 2,
        "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    },
)

PRESETS = {
    "mnist": Recipe(),
    "scenes": SCENES,
    # The latents and the U-Net of `scenes` on photographs, with captions that name the class.
    "cifar10": Recipe(
        dataset="cifar10",
        full=True,
        image_size=32,
        learning_rates=(5e-3, 3e-3, 1.5e-3),
        kl_weight=1e-3,
        guidance_scale=7.0,
        critic={"sample_size": 32, "in_channels": 3, "block_out_channels": (16, 32, 64)},
        **{key: getattr(SCENES, key) for key in ("vae", "unet")},
    ),
    # The whole chain in seconds, to see that it works; what it draws is noise.
    "tiny": Recipe(
        num_images=500,
        batch_sizes=(16, 16, 16),
        critic={"sample_size": 32, "block_out_channels": (4, 4, 4), "feature_dim": 8},
        vae={**Recipe().vae, "block_out_channels": (4, 8), "norm_num_groups": 4}
        | {
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
        },
        text_encoder={
            **Recipe().text_encoder,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
        },
        unet={
            **Recipe().unet,
            "sample_size": 16,
            "block_out_channels": (8, 16),
            "norm_num_groups": 4,
        },
    ),
}

# The classifiers that score: how each is made, and how its training images are changed so that they
# seem more.
EXAMINERS: dict[str, dict[str, Any]] = {
    "mnist": {"steps": 4000, "augment": jitter},
    "cifar10": {
        "steps": 3900,
        "augment": shift_and_mirror,
        "block_out_channels": (32, 64, 128, 256),
    },
}
