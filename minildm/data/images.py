"""Pictures as tensors in [-1, 1], the scale of Ho et al. 2020, or as bytes; padded, cropped, made
smaller and larger. Chapters 00 and 01."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minildm.precision import at_least_float32

BORDER = 2  # pixels of a 28 x 28 digit's rim that are always nearly black


def pad(images: Tensor, size: int = 32) -> Tensor:
    """Centre (B, C, H, W) images in [-1, 1] on a black (-1) canvas: (B, C, size, size)."""
    missing = size - images.shape[-1]
    if missing < 0 or missing % 2 or images.shape[-2] != images.shape[-1]:
        raise ValueError(
            f"expected square images, {size} wide or less by an even number, "
            f"got {tuple(images.shape)}"
        )
    return F.pad(images, (missing // 2,) * 4, value=-1.0)


def crop(images: Tensor, size: int = 28) -> Tensor:
    """The inverse of `pad`: the central (B, C, size, size) of (B, C, H, W)."""
    border = images.shape[-1] - size
    if border < 0 or border % 2 or images.shape[-2] != images.shape[-1]:
        raise ValueError(
            f"expected square images, {size} wide or more by an even number, "
            f"got {tuple(images.shape)}"
        )
    return images[..., border // 2 : border // 2 + size, border // 2 : border // 2 + size]


def to_pixels(images: Tensor, size: int | None = None) -> np.ndarray:
    """(N, 1 or 3, H, W) in [-1, 1] -> uint8 (N, H, W) or (N, H, W, 3).

    size: only so much of the middle, `size` x `size`.
    """
    if (
        images.ndim != 4
        or images.shape[1] not in (1, 3)
        or images.is_complex()
        or not images.isfinite().all()
    ):
        raise ValueError(
            f"expected finite images (N, 1 or 3, H, W), got {tuple(images.shape)}, or NaN in them"
        )
    images = images if size is None else crop(images, size)
    images = at_least_float32(images)  # bfloat16 has 8 bits, of which the sum would lose some
    rounded = ((images.clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)
    pixels = rounded.permute(0, 2, 3, 1).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def from_pixels(pixels: np.ndarray) -> Tensor:
    """The inverse of `to_pixels`.

    uint8 (N, H, W) or (N, H, W, 3) -> (N, 1 or 3, H, W) in [-1, 1].
    """
    if pixels.dtype != np.uint8 or not (
        pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] in (1, 3))
    ):
        raise ValueError(
            f"expected uint8 (N, H, W) or (N, H, W, 3), got {pixels.dtype} {pixels.shape}"
        )
    images = torch.as_tensor(pixels if pixels.ndim == 4 else pixels[..., None]).permute(0, 3, 1, 2)
    return images.float() / 127.5 - 1


def shrink(images: Tensor) -> Tensor:
    """28 x 28 digits without their black rim, in two thirds of the size.

    (N, 1, 28, 28) -> (N, 1, 16, 16).
    """
    if images.shape[1:] != (1, 28, 28):
        raise ValueError(f"expected digits (N, 1, 28, 28), got {tuple(images.shape)}")
    inner = images[..., BORDER:-BORDER, BORDER:-BORDER]
    return F.interpolate(inner, size=(16, 16), mode="bilinear", antialias=True)


def enlarge(images: Tensor) -> Tensor:
    """The way back, as far as there is one, for an examiner of 28 x 28 digits.

    (N, 1, 16, 16) -> (N, 1, 28, 28).
    """
    if images.shape[1:] != (1, 16, 16):
        raise ValueError(f"expected digits (N, 1, 16, 16), got {tuple(images.shape)}")
    inner = F.interpolate(images.clamp(-1, 1), size=(24, 24), mode="bilinear")
    return F.pad(inner, [BORDER] * 4, value=-1.0)
