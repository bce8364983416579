"""Modules that make a loss of a batch, one for each kind of network (Kingma & Welling 2014; Ho et
al. 2020; Esser et al. 2021; Rombach et al. 2022). Chapters 06, 07 and 11.

ClassifierLoss   images and labels: the perceptual net, whose features teach the next network
AutoencoderLoss  images: pixels <-> latents
DenoisingLoss    clean pictures or latents, noise, timesteps, and whatever the denoiser is told
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, channels_last, nn

from minildm.models.autoencoder import AutoencoderKL
from minildm.models.classifier import ImageClassifier
from minildm.schedulers.base import Scheduler
from minildm.training.losses import (
    PatchDiscriminator,
    adaptive_weight,
    check_pair,
    discriminator_loss,
    generator_loss,
    perceptual_loss,
    reconstruction_loss,
    snr_weights,
)


class ClassifierLoss(nn.Module):
    """images (B, C, H, W), labels (B,) -> cross-entropy, ()."""

    def __init__(self, classifier: ImageClassifier):
        super().__init__()
        self.classifier = classifier.to(memory_format=channels_last)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.classifier(images), labels, label_smoothing=0.05)


class AutoencoderLoss(nn.Module):
    """Reconstruction + perceptual + KL, and where there is a discriminator, what it learns and, as
    soon as `discriminator_start` training steps are done, how well it sees through the decoder.

    images (B, C, H, W), noise (B, latent_channels, h, w) -> (). Both players are trained at once:
    the discriminator's gradient stops at the pictures, the decoder's at the discriminator.
    """

    steps: Tensor

    def __init__(
        self,
        vae: AutoencoderKL,
        perceptual_net: ImageClassifier,
        perceptual_weight: float,
        kl_weight: float,
        discriminator: PatchDiscriminator | None = None,
        discriminator_weight: float = 0.5,
        discriminator_start: int = 0,
    ):
        super().__init__()
        self.vae = vae.to(memory_format=channels_last)
        self.perceptual_net = perceptual_net.requires_grad_(False)
        self.perceptual_weight = perceptual_weight
        self.kl_weight = kl_weight
        self.discriminator = discriminator
        self.discriminator_weight = discriminator_weight
        self.discriminator_start = discriminator_start
        if discriminator is not None:
            discriminator.to(memory_format=channels_last)
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # resumed with it

    def train(self, mode: bool = True) -> AutoencoderLoss:
        super().train(mode)
        self.perceptual_net.eval()  # it judges, it does not learn
        return self

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        images = images.contiguous(memory_format=channels_last)
        posterior = self.vae.encode(images)
        check_pair(noise, posterior.mean)
        reconstruction = self.vae.decode(posterior.mean + posterior.std * noise)
        kl = posterior.kl().mean() / noise[0].numel()
        perceptual = perceptual_loss(self.perceptual_net, reconstruction, images)
        likeness = reconstruction_loss(reconstruction, images) + self.perceptual_weight * perceptual
        loss = likeness + self.kl_weight * kl
        if self.discriminator is None or not self.training:
            return loss
        return loss + self.adversarial_loss(self.discriminator, likeness, reconstruction, images)

    def adversarial_loss(
        self,
        discriminator: PatchDiscriminator,
        likeness: Tensor,
        reconstruction: Tensor,
        images: Tensor,
    ) -> Tensor:
        """What the discriminator has to learn, and what the decoder, weighed against `likeness`."""
        real, fake = discriminator(images), discriminator(reconstruction.detach())
        its_own = discriminator_loss(real, fake, kind="hinge") / 2
        self.steps += 1
        if self.steps <= self.discriminator_start:
            return its_own
        discriminator.requires_grad_(False)  # here it judges, it does not learn
        decoders = generator_loss(discriminator(reconstruction), kind="hinge")
        discriminator.requires_grad_(True)
        weight = adaptive_weight(likeness, decoders, self.vae.decoder.conv_out.weight)
        return its_own + self.discriminator_weight * weight * decoders


class DenoisingLoss(nn.Module):
    """How far `predict(x_t, t, *condition)` is from what the scheduler's prediction_type asks for.

    x0, noise (B, C, h, w), timesteps (B,), *condition -> mean squared error, (); Ho et al. 2020,
    algorithm 1.

    predict: a network, with what it takes to read its condition: a U-Net or a transformer told the
        class, `TextConditionedUNet`, `variations.ConcatenatedUNet`, `variations.ControlledUNet`
    weighting: how much each noise level counts, a name for `losses.snr_weights`; None leaves the
        error as it is
    """

    def __init__(self, predict: nn.Module, scheduler: Scheduler, weighting: str | None = None):
        super().__init__()
        self.predict = predict.to(memory_format=channels_last)
        self.scheduler = scheduler
        self.weighting = weighting

    def forward(self, x0: Tensor, noise: Tensor, timesteps: Tensor, *condition: Tensor) -> Tensor:
        check_pair(noise, x0)
        if timesteps.shape != x0.shape[:1]:
            got = tuple(timesteps.shape)
            raise ValueError(f"expected a timestep for each of {len(x0)} samples, got {got}")
        alpha, sigma = self.scheduler.alpha_sigma(timesteps, x0)
        xt = alpha * x0 + sigma * noise  # on the network's scale, whatever the sampler's is
        xt = xt.contiguous(memory_format=channels_last)
        prediction = self.predict(xt, timesteps, *condition)
        target = self.scheduler.training_target(x0, noise, timesteps)
        check_pair(prediction, target)
        if self.weighting is None:
            return F.mse_loss(prediction, target)
        alpha_prod_t = self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
        prediction_type = self.scheduler.config.prediction_type
        weights = snr_weights(alpha_prod_t, prediction_type, self.weighting)
        return (weights * (prediction - target).square().mean((1, 2, 3))).mean()


class TextConditionedUNet(nn.Module):
    """A U-Net and the text encoder that reads its prompts: sample (B, C, h, w), timestep (B,),
    input_ids (B, L) -> (B, C, h, w). Both can be trained."""

    def __init__(self, unet: nn.Module, text_encoder: nn.Module):
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, sample: Tensor, timestep: Tensor, input_ids: Tensor) -> Tensor:
        # the same text is encoded once
        prompts, which = input_ids.unique(dim=0, return_inverse=True)
        return self.unet(sample, timestep, self.text_encoder(prompts)[which])
