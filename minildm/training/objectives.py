"""The three stages of training a latent diffusion model: what each sees, and what it makes small
(Kingma & Welling 2013; Ho et al. 2020; Rombach et al. 2022). Chapters 06, 07 and 11.

critic       a small classifier whose features are the perceptual loss of the next stage
autoencoder  pixels <-> latents
denoiser     the U-Net in the latent space of the now frozen autoencoder, and with it the text
encoder
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from minildm.models.autoencoder import AutoencoderKL
from minildm.models.classifier import ImageClassifier
from minildm.models.unet import UNet2DConditionModel
from minildm.schedulers import DDPMScheduler
from minildm.text.text_encoder import CLIPTextModel
from minildm.training.losses import perceptual_loss, reconstruction_loss, snr_weights
from minildm.training.trainer import Batch, batch_indices, spread_timesteps, step_generator

Augmentation = Callable[[Tensor, torch.Generator], Tensor]  # of images (B, C, H, W)


class ClassifierTask(nn.Module):
    """images (B, C, H, W), labels (B,) -> cross-entropy, ()."""

    def __init__(self, classifier: ImageClassifier):
        super().__init__()
        self.classifier = classifier.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.classifier(images), labels, label_smoothing=0.05)


class AutoencoderTask(nn.Module):
    """images (B, C, H, W), noise (B, latent_channels, h, w) -> reconstruction + perceptual + KL,
    ()."""

    def __init__(
        self,
        vae: AutoencoderKL,
        critic: ImageClassifier,
        perceptual_weight: float,
        kl_weight: float,
    ):
        super().__init__()
        self.vae, self.critic = (
            vae.to(memory_format=torch.channels_last),
            critic.requires_grad_(False),
        )
        self.perceptual_weight, self.kl_weight = perceptual_weight, kl_weight

    def train(self, mode: bool = True) -> AutoencoderTask:
        super().train(mode)
        self.critic.eval()  # it judges, it does not learn
        return self

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        posterior = self.vae.encode(images)
        reconstruction = self.vae.decode(posterior.mean + posterior.std * noise)
        kl = posterior.kl().mean() / noise[0].numel()
        perceptual = perceptual_loss(self.critic, reconstruction, images)
        return (
            reconstruction_loss(reconstruction, images)
            + self.perceptual_weight * perceptual
            + self.kl_weight * kl
        )


class DenoiserTask(nn.Module):
    """latents z, noise (B, C, h, w), timesteps (B,), input_ids (B, L) -> mean squared error of the
    prediction, ().

    weighting: how much each noise level counts, a name for `losses.snr_weights`; None leaves the
        error as it is.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModel,
        scheduler: DDPMScheduler,
        weighting: str | None = None,
    ):
        super().__init__()
        self.unet, self.text_encoder = unet.to(memory_format=torch.channels_last), text_encoder
        self.scheduler, self.weighting = scheduler, weighting

    def forward(
        self, latents: Tensor, noise: Tensor, timesteps: Tensor, input_ids: Tensor
    ) -> Tensor:
        prompts, which = input_ids.unique(
            dim=0, return_inverse=True
        )  # the same text is encoded once
        context = self.text_encoder(prompts)[which]
        noisy = self.scheduler.add_noise(latents, noise, timesteps).contiguous(
            memory_format=torch.channels_last
        )
        target = self.scheduler.training_target(latents, noise, timesteps)
        prediction = self.unet(noisy, timesteps, context)
        if self.weighting is None:
            return F.mse_loss(prediction, target)
        remaining = self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
        weights = snr_weights(remaining, self.scheduler.config.prediction_type, self.weighting)
        return (weights * (prediction - target).square().mean((1, 2, 3))).mean()


def classifier_batches(
    name: str,
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    seed: int,
    augment: Augmentation | None = None,
) -> Callable[[int], Batch]:
    """step -> images (B, C, H, W), each changed a little at random if there is an `augment`, and
    labels (B,)."""

    def batch(step: int) -> Batch:
        index = batch_indices(len(images), batch_size, seed, name, step)
        chosen = (
            augment(images[index], step_generator(seed, name, step)) if augment else images[index]
        )
        return chosen, labels[index]

    return batch


def autoencoder_batches(
    images: Tensor, latent_shape: tuple[int, int, int], batch_size: int, seed: int
) -> Callable[[int], Batch]:
    """step -> images (B, C, H, W) and the noise of their z, (B, *latent_shape)."""

    check_range(images)

    def batch(step: int) -> Batch:
        index = batch_indices(len(images), batch_size, seed, "autoencoder", step)
        generator = step_generator(seed, "autoencoder", step)
        return images[index], torch.randn(batch_size, *latent_shape, generator=generator)

    return batch


def denoiser_batches(
    mean: Tensor,
    std: Tensor,
    caption_of: Tensor,
    caption_ids: list[Tensor],
    empty_ids: Tensor,
    prompt_dropout: float,
    batch_size: int,
    seed: int,
    num_train_timesteps: int = 1000,
) -> Callable[[int], Batch]:
    """step -> what DenoiserTask takes: latents, noise, timesteps, input_ids.

    mean, std: of every image's scaled z, (N, C, h, w)
    caption_ids: sets of phrasings, each (P, L); caption_of: (N,), which of them is each image's
    empty_ids: the prompt "", (L,), which takes the caption's place in a `prompt_dropout` of the
        cases
    """
    deviation = (mean.var() + std.square().mean()).sqrt().item()
    if not 0.5 < deviation < 2:
        raise ValueError(
            f"expected scaled latents, of deviation about 1, got {deviation:.3g}; multiply mean and std by the "
            "autoencoder's scaling_factor"
        )

    def batch(step: int) -> Batch:
        generator = step_generator(seed, "denoiser", step)
        index = batch_indices(len(mean), batch_size, seed, "denoiser", step)
        noise, reparameterised = torch.randn(2, batch_size, *mean.shape[1:], generator=generator)
        timesteps = spread_timesteps(batch_size, generator, num_train_timesteps)
        phrasing, dropped = torch.rand(2, batch_size, generator=generator)
        input_ids = torch.stack(
            [
                caption_ids[c][int(p * len(caption_ids[c]))]
                for c, p in zip(caption_of[index], phrasing, strict=True)
            ]
        )
        input_ids[dropped < prompt_dropout] = empty_ids
        return mean[index] + std[index] * reparameterised, noise, timesteps, input_ids

    return batch


@torch.no_grad()
def encode_dataset(
    vae: AutoencoderKL, images: Tensor, progress: bool = True
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every image's z, once for the whole training: two of (N, C, h,
    w)."""
    if isinstance(vae, AutoencoderKL):
        check_range(images)
    batches = images.split(50)  # small enough for the processor's cache
    posteriors = [
        vae.encode(batch.to(vae.device, memory_format=torch.channels_last))
        for batch in tqdm(batches, "latents", disable=not progress)
    ]
    return torch.cat([p.mean.cpu() for p in posteriors]), torch.cat(
        [p.std.cpu() for p in posteriors]
    )


def check_range(images: Tensor) -> None:
    """ValueError if a whole data set of pictures is not in [-1, 1], or shows nothing darker than
    middle grey."""
    low, high = images.min().item(), images.max().item()
    if low >= 0 or low < -1.01 or high > 1.01:
        raise ValueError(
            f"expected images in [-1, 1], got them from {low:g} to {high:g}; from [0, 1]: 2 * images - 1"
        )
