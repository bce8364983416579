"""What autoencoder and text encoder are trained to make small (Kingma & Welling 2013; Johnson et al. 2016; Radford et
al. 2021). Chapters 06 and 08.

The adversarial and distillation losses come with the chapters that need them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .classifiers import ImageClassifier


def reconstruction_loss(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean absolute error, which keeps strokes crisper than the squared one. (B, C, H, W) twice -> ()."""
    return (reconstruction - images).abs().mean()


def perceptual_loss(critic: ImageClassifier, reconstruction: Tensor, images: Tensor) -> Tensor:
    """Distance of two pictures as a trained network sees them: mean squared difference of its feature maps, each
    divided by the mean square of the real picture's, so that all layers count alike; Johnson et al. 2016, eq. 2.

    (B, C, H, W) twice -> (). The critic must be in eval mode, and is not the examiner that scores the result.
    """
    with torch.no_grad():
        targets = critic.feature_maps(images)
    maps = critic.feature_maps(reconstruction)
    terms = [(a - b).square().mean((1, 2, 3)) / b.square().mean((1, 2, 3)) for a, b in zip(maps, targets, strict=True)]
    return torch.stack(terms).mean()


def contrastive_loss(image_embeds: Tensor, text_embeds: Tensor, logit_scale: Tensor | float) -> Tensor:
    """Which text belongs to an image, and which image to a text, both asked as multiple choice over the batch.

    image_embeds, text_embeds: (B, D), row i of one belongs to row i of the other, of any length; logit_scale: the
    inverse temperature e^τ, () -> (). The mean of both cross-entropies; Radford et al. 2021, figure 3.
    """
    if image_embeds.ndim != 2 or image_embeds.shape != text_embeds.shape:
        got = f"{tuple(image_embeds.shape)} and {tuple(text_embeds.shape)}"
        raise ValueError(f"expected as many images as texts, (B, D) both, got {got}")
    logits = logit_scale * F.normalize(image_embeds, dim=-1) @ F.normalize(text_embeds, dim=-1).mT
    pairs = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.mT, pairs)) / 2
