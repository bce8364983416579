"""How the networks learn."""

from minildm.training.batches import (
    Augmentation,
    Batch,
    autoencoder_batches,
    batch_indices,
    check_range,
    classifier_batches,
    denoiser_batches,
    encode_dataset,
    label_batches,
    pixel_batches,
    spread_timesteps,
    step_generator,
)
from minildm.training.examiners import examiner_for, train_examiner
from minildm.training.losses import (
    PatchDiscriminator,
    adaptive_weight,
    contrastive_loss,
    discriminator_loss,
    generator_loss,
    perceptual_loss,
    reconstruction_loss,
    snr_weights,
)
from minildm.training.objectives import (
    AutoencoderLoss,
    ClassifierLoss,
    DenoisingLoss,
    TextConditionedUNet,
)
from minildm.training.own_pictures import describe_data, recipe_for
from minildm.training.recipes import (
    OWN_PICTURES,
    PRESETS,
    Recipe,
    StageRecipe,
    new_denoiser,
    seeded,
)
from minildm.training.runs import PERCEPTUAL_STREAM, train
from minildm.training.state import EMA, STATE_FILE, hardware, save_state
from minildm.training.trainer import Trainer, learning_rate_at

__all__ = [
    "Augmentation",
    "AutoencoderLoss",
    "Batch",
    "ClassifierLoss",
    "DenoisingLoss",
    "EMA",
    "OWN_PICTURES",
    "PERCEPTUAL_STREAM",
    "PRESETS",
    "PatchDiscriminator",
    "Recipe",
    "STATE_FILE",
    "StageRecipe",
    "TextConditionedUNet",
    "Trainer",
    "adaptive_weight",
    "autoencoder_batches",
    "batch_indices",
    "check_range",
    "classifier_batches",
    "contrastive_loss",
    "denoiser_batches",
    "describe_data",
    "discriminator_loss",
    "encode_dataset",
    "examiner_for",
    "generator_loss",
    "hardware",
    "label_batches",
    "learning_rate_at",
    "new_denoiser",
    "perceptual_loss",
    "pixel_batches",
    "recipe_for",
    "reconstruction_loss",
    "save_state",
    "seeded",
    "snr_weights",
    "spread_timesteps",
    "step_generator",
    "train",
    "train_examiner",
]
