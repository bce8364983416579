"""What the autoencoder is trained to make small (Kingma & Welling 2013; Johnson et al. 2016). Chapter 06.

The adversarial, contrastive and distillation losses come with the chapters that need them.
"""

from __future__ import annotations

import torch
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
