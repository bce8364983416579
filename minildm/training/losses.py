"""What networks are trained to make small, as functions of what they say (Kingma & Welling 2014;
Goodfellow et al. 2014; Johnson et al. 2016; Isola et al. 2017; Esser et al. 2021; Radford et al.
2021). Chapters 03, 06, 08 and 13."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.models.classifier import ImageClassifier


def check_pair(got: Tensor, expected: Tensor) -> None:
    """ValueError unless both have one shape: a difference would spread the smaller over the
    larger."""
    if got.shape != expected.shape:
        shapes = f"expected {tuple(expected.shape)}, got {tuple(got.shape)}"
        raise ValueError(f"what a loss compares has one shape: {shapes}")


def reconstruction_loss(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean absolute error, which keeps strokes crisper than the squared one.

    (B, C, H, W) twice -> ().
    """
    check_pair(reconstruction, images)
    return (reconstruction - images).abs().mean()


def perceptual_loss(
    perceptual_net: ImageClassifier, reconstruction: Tensor, images: Tensor
) -> Tensor:
    """Distance of two pictures as a trained network sees them: mean squared difference of its
    feature maps, each divided by the mean square of the real picture's, so that all layers count
    alike; Johnson et al. 2016, eq. 2.

    (B, C, H, W) twice -> (). The net must be in eval mode, and is not the examiner that scores the
    result.
    """
    check_pair(reconstruction, images)
    with torch.no_grad():
        targets = perceptual_net.feature_maps(images)
    maps = perceptual_net.feature_maps(reconstruction)
    terms = [
        (a - b).square().mean((1, 2, 3)) / b.square().mean((1, 2, 3))
        for a, b in zip(maps, targets, strict=True)
    ]
    return torch.stack(terms).mean()


def contrastive_loss(
    image_embeds: Tensor, text_embeds: Tensor, logit_scale: Tensor | float
) -> Tensor:
    """Which text belongs to an image, and which image to a text? Each is asked as multiple choice
    over the batch, and the loss, (), is the mean of both cross-entropies; Radford et al. 2021,
    figure 3.

    image_embeds, text_embeds: (B, D), row i of one belongs to row i of the other; of any length
    logit_scale: the inverse temperature e^τ, ()
    """
    if image_embeds.ndim != 2 or image_embeds.shape != text_embeds.shape:
        got = f"{tuple(image_embeds.shape)} and {tuple(text_embeds.shape)}"
        raise ValueError(f"expected as many images as texts, (B, D) both, got {got}")
    logits = logit_scale * F.normalize(image_embeds, dim=-1) @ F.normalize(text_embeds, dim=-1).mT
    pairs = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.mT, pairs)) / 2


def snr_weights(
    alphas_cumprod: Tensor, prediction_type: str, weighting: str = "min_snr", gamma: float = 5.0
) -> Tensor:
    """What to multiply the squared error of a prediction by, so that noise levels count as
    `weighting` says.

    The same mistake d² = ‖x₀ - x̂₀‖² counts d² as "sample", SNR·d² as "epsilon" and (SNR + 1)·d² as
    "v_prediction".

    weighting: one of those three, to count as that one's plain loss does (1 if it is the
        prediction_type itself), or "min_snr", min(SNR, gamma)·d²; Hang et al. 2023, section 3.4
    alphas_cumprod: any shape in (0, 1); the result has it too
    """
    if not ((alphas_cumprod >= 0) & (alphas_cumprod <= 1)).all():
        raise ValueError(
            "expected alphas_cumprod in [0, 1], "
            f"got {alphas_cumprod.min()} to {alphas_cumprod.max()}"
        )
    # as multiples of ‖x₀ - x̂₀‖², all times 1 - ᾱ, which keeps them finite where nothing is noise
    counts = {
        "epsilon": alphas_cumprod,
        "sample": 1 - alphas_cumprod,
        "v_prediction": torch.ones_like(alphas_cumprod),
        "min_snr": torch.minimum(alphas_cumprod, gamma * (1 - alphas_cumprod)),
    }
    if weighting not in counts:
        raise ValueError(f"expected a weighting of {', '.join(counts)}, got {weighting!r}")
    if prediction_type not in counts or prediction_type == "min_snr":
        raise ValueError(
            f"expected a prediction_type of epsilon, sample, v_prediction, got {prediction_type!r}"
        )
    if (counts[prediction_type] == 0).any():
        raise ValueError(
            f"expected some signal and some noise to predict {prediction_type}, "
            "got alphas_cumprod 0 or 1"
        )
    return counts[weighting] / counts[prediction_type]


class PatchDiscriminator(nn.Sequential):
    """Real or made? Asked of every patch, not of the picture.

    (B, in_channels, H, W) -> logits (B, 1, H/4, W/4). Strided 4x4 convolutions after Isola et al.
    2017, section 3.2; each logit sees 18x18 pixels.
    """

    def __init__(self, in_channels: int = 1, width: int = 16):
        super().__init__(
            nn.Conv2d(in_channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.GroupNorm(1, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, padding=1),
        )


def discriminator_loss(real: Tensor, fake: Tensor, kind: str = "non_saturating") -> Tensor:
    """What the discriminator makes small, (), from its logits of real and of made pictures, of any
    shape. Give it pictures that are detached from the network that made them.

    "non_saturating": the cross-entropy of telling them apart, Goodfellow et al. 2014, eq. 1;
    "hinge": mean of max(0, 1 - real) plus that of max(0, 1 + fake), nothing beyond a margin of 1;
    Lim & Ye 2017. (The VQGAN of chapter 06 takes half of it.)
    """
    if kind == "non_saturating":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    raise ValueError(f"expected a loss of non_saturating or hinge, got {kind!r}")


def generator_loss(fake: Tensor, kind: str = "non_saturating") -> Tensor:
    """What the generator, or a decoder, makes small, (), from the discriminator's logits, of any
    shape, of what it made.

    "non_saturating": -log D, which has a slope where the discriminator is sure; Goodfellow et al.
    2014, section 3. "hinge": minus the mean logit; Lim & Ye 2017.
    """
    if kind == "non_saturating":
        return F.softplus(-fake).mean()
    if kind == "hinge":
        return -fake.mean()
    raise ValueError(f"expected a loss of non_saturating or hinge, got {kind!r}")


def adaptive_weight(loss: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """What to multiply the adversarial loss by, so that it pulls at the decoder as hard as the
    other loss does: ‖∇loss‖ / ‖∇adversarial‖, (), by the weights of the decoder's last layer; Esser
    et al. 2021, eq. 7.

    loss, adversarial: () both, computed from last_layer; no gradient flows through the weight
    """
    of_loss, of_adversarial = (
        torch.autograd.grad(term, last_layer, retain_graph=True)[0] for term in (loss, adversarial)
    )
    return (of_loss.norm() / (of_adversarial.norm() + 1e-4)).clamp(max=1e4)
