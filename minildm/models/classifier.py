"""A small convolutional classifier: the examiner of `evaluation` and the eyes of the perceptual
loss. Chapters 12 and 17.

Two are trained for every data set, never the same one for both tasks: the *examiner* scores what a
model draws and is in no loss; the *perceptual net*, smaller and from another seed, gives the
features of the perceptual loss. Judging with the network that one has trained against would be
marking one's own homework.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minildm.configuration.kinds import checked_count
from minildm.configuration.mixins import ModelMixin, register_to_config
from minildm.data.picture_cache import Pictures


class ConvBlock(nn.Sequential):
    """Two 3×3 convolutions with batch normalisation. (B, C, H, W) -> (B, D, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )


class ImageClassifier(ModelMixin, nn.Module):
    """Logits of a picture's class; its `features` are the space in which pictures are compared.

    Blocks of two convolutions, each followed by max-pooling that halves the picture, then two
    linear layers: images (B, in_channels, sample_size, sample_size) in [-1, 1] -> (B, num_classes).
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 28,
        in_channels: int = 1,
        num_classes: int = 10,
        block_out_channels: tuple[int, ...] = (16, 32, 64),
        feature_dim: int = 64,
    ):
        super().__init__()
        widths = (in_channels, *block_out_channels)
        self.blocks = nn.ModuleList(
            ConvBlock(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        side = sample_size >> len(block_out_channels)
        self.project = nn.Linear(block_out_channels[-1] * side * side, feature_dim)
        self.classify = nn.Linear(feature_dim, num_classes)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """The output of every block, fine to coarse, whatever H and W are.

        [(B, C_i, H / 2^i, W / 2^i)].
        """
        maps, x = [], images
        for i, block in enumerate(self.blocks):
            x = block(self.pool(x) if i else x)
            maps.append(x)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """The last layer before the classes, (B, feature_dim). For Fréchet and kernel distance."""
        channels, side = self.config.in_channels, self.config.sample_size
        if images.shape[1:] != (channels, side, side):
            raise ValueError(
                f"expected images (B, {channels}, {side}, {side}), got {tuple(images.shape)}"
            )
        return self.project(self.pool(self.feature_maps(images)[-1]).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(torch.relu(self.features(images)))


def jitter(
    images: Tensor,
    generator: torch.Generator,
    rotation: float = 10,
    scale: float = 0.1,
    shift: float = 0.06,
) -> Tensor:
    """Each image rotated, scaled and shifted a little at random: the same digit, written once more.

    rotation in degrees, scale and shift as fractions of the picture; outside it is -1.
    (B, C, H, W) -> (B, C, H, W).
    """
    angle, size, dx, dy = (torch.rand(4, len(images), generator=generator) * 2 - 1) * torch.tensor(
        [[torch.pi * rotation / 180], [scale], [2 * shift], [2 * shift]]
    )
    size = 1 + size
    rows = torch.stack(
        [angle.cos() * size, -angle.sin() * size, dx, angle.sin() * size, angle.cos() * size, dy], 1
    )
    grid = nn.functional.affine_grid(rows.view(-1, 2, 3), list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images + 1, grid, align_corners=False) - 1


def shift_and_mirror(
    images: Tensor, generator: torch.Generator, most: int = 4, mirrored: float = 0.5
) -> Tensor:
    """Each image moved by up to `most` pixels, its rim reflected where it leaves the frame, and
    half of them mirrored: the same photograph, taken once more (He et al. 2016, section 4.2).

    mirrored: that part of them; 0 where left and right have a meaning, as in letters
    (B, C, H, W) -> (B, C, H, W).
    """
    count, _, height, width = images.shape
    top, left = torch.randint(2 * most + 1, (2, count, 1), generator=generator)
    columns = left + torch.arange(width)
    chosen = torch.rand(count, generator=generator) < mirrored
    columns[chosen] = columns[chosen].flip(1)
    rows = (top + torch.arange(height))[:, :, None]
    padded = nn.functional.pad(images, [most] * 4, mode="reflect")
    return padded[torch.arange(count)[:, None, None], :, rows, columns[:, None]].permute(0, 3, 1, 2)


@torch.no_grad()
def extract(
    examiner: ImageClassifier, images: Tensor | Pictures, batch_size: int = 100
) -> tuple[Tensor, Tensor]:
    """Features (N, D) and predicted classes (N,) of images (N, C, H, W) in [-1, 1], where the
    images are. The examiner: in eval mode."""
    if examiner.training:
        raise ValueError(
            "expected the examiner in evaluation mode (examiner.eval()), got training mode"
        )
    batches = images.split(checked_count("batch_size", batch_size))
    features = torch.cat([examiner.features(batch.to(examiner.device)) for batch in batches])
    predicted = examiner.classify(features.relu()).argmax(1)
    return features.to(images.device), predicted.to(images.device)
