"""How the networks learn."""

from minildm.training.losses import (
    PatchDiscriminator,
    contrastive_loss,
    discriminator_loss,
    generator_loss,
    perceptual_loss,
    reconstruction_loss,
    snr_weights,
)
from minildm.training.objectives import (
    Augmentation,
    AutoencoderTask,
    ClassifierTask,
    DenoiserTask,
    autoencoder_batches,
    check_range,
    classifier_batches,
    denoiser_batches,
    encode_dataset,
)
from minildm.training.recipes import PRESETS, Recipe
from minildm.training.runs import Run, hardware, train, train_examiner
from minildm.training.trainer import (
    EMA,
    STATE_FILE,
    Batch,
    Stage,
    batch_indices,
    learning_rate_at,
    save_state,
    spread_timesteps,
    step_generator,
)

__all__ = [
    "Augmentation",
    "AutoencoderTask",
    "Batch",
    "ClassifierTask",
    "DenoiserTask",
    "EMA",
    "PRESETS",
    "PatchDiscriminator",
    "Recipe",
    "Run",
    "STATE_FILE",
    "Stage",
    "autoencoder_batches",
    "batch_indices",
    "check_range",
    "classifier_batches",
    "contrastive_loss",
    "denoiser_batches",
    "discriminator_loss",
    "encode_dataset",
    "generator_loss",
    "hardware",
    "learning_rate_at",
    "perceptual_loss",
    "reconstruction_loss",
    "save_state",
    "snr_weights",
    "spread_timesteps",
    "step_generator",
    "train",
    "train_examiner",
]
