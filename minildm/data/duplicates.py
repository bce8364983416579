"""Pictures that are there twice, and those of a test that were trained on: the same pixels, or so
alike that one is a copy of the other, made smaller or compressed (Barz & Denzler 2020). Chapter 18.

Compared are thumbnails of 16 x 16 of equal contrast, as perceptual hashes do, but by their
distance, so that nothing is lost to bits. On photographs of CIFAR-10, enlarged to 128 x 128,
a copy is nearer than 0.1 if it was saved as JPEG (quality 75: all, 30: 99 %), made smaller by 30 %
(all) or a tenth brighter (95 %). Of 5,000 different ones the nearest two are 0.17 apart; of 6,000
scenes and 20,000 digits, less than one in a hundred is so near to another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from minildm.data.images import to_pixels
from minildm.data.picture_cache import Pictures

THUMBNAIL = 16  # pixels a side
THRESHOLD = 0.1
FLAT = 0.1  # a contrast below this is not made larger: it would be noise
PART = 100  # pictures that are made small at once
BLOCK = 256  # pictures that are compared at once, with 16 times as many


@dataclass(frozen=True)
class Copy:
    """Picture `second` repeats `first`: their numbers, how far apart their thumbnails are, and
    whether all their pixels are the same."""

    first: int
    second: int
    distance: float
    exact: bool


def find_duplicates(images: Tensor | Pictures, threshold: float = THRESHOLD) -> list[Copy]:
    """Every picture that repeats an earlier one: the first with the same pixels, or else the
    nearest. Without the `second` of each Copy no two are alike.

    images: (N, C, H, W) in [-1, 1].
    """
    first: dict[bytes, int] = {}
    same: dict[int, int] = {}
    for number, digest in enumerate(_digests(images)):
        if first.setdefault(digest, number) != number:
            same[number] = first[digest]
    return _together(same, _near(_descriptors(images), None, threshold))


def find_leaks(
    train: Tensor | Pictures, test: Tensor | Pictures, threshold: float = THRESHOLD
) -> list[Copy]:
    """Every picture of the test (`second`) that repeats one of the training (`first`): the first
    with the same pixels, or else the nearest.

    train, test: (N, C, H, W) and (M, C, H, W) in [-1, 1].
    """
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"expected pictures of one shape, got {tuple(train.shape)} and {tuple(test.shape)}"
        )
    first: dict[bytes, int] = {}
    for number, digest in enumerate(_digests(train)):
        first.setdefault(digest, number)
    same = {i: first[digest] for i, digest in enumerate(_digests(test)) if digest in first}
    return _together(same, _near(_descriptors(train), _descriptors(test), threshold))


def thumbnails(images: Tensor | Pictures, side: int) -> Tensor:
    """Tiny pictures, the means of their parts, a row each: (N, C * side * side) in [-1, 1]."""
    rows = torch.empty(len(images), images.shape[1] * side**2)  # of many pictures, only once
    filled = 0
    for part in images.split(PART):
        rows[filled : filled + len(part)] = F.adaptive_avg_pool2d(part, side).flatten(1)
        filled += len(part)
    return rows


def _digests(images: Tensor | Pictures) -> list[bytes]:
    """Of each picture's pixels."""
    return [
        hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
        for part in images.split(PART)
        for pixels in to_pixels(part)
    ]


def _descriptors(images: Tensor | Pictures) -> Tensor:
    """A row for each, between which distances are measured: its thumbnail with a mean of 0 and a
    contrast of 1, and the mean (0 to 1), so that black is not white."""
    rows = torch.empty(len(images), images.shape[1] * THUMBNAIL**2 + 1, device="cpu")
    for begin in range(0, len(images), PART):
        part = (thumbnails(images[begin : begin + PART], THUMBNAIL).cpu() + 1) / 2
        mean = part.mean(1, keepdim=True)
        contrast = part.std(1, correction=0, keepdim=True).clamp(min=FLAT)
        scaled = (part - mean) / (contrast * part.shape[1] ** 0.5)
        rows[begin : begin + PART] = torch.cat([scaled, mean], dim=1)
    return rows


def _near(first: Tensor, second: Tensor | None, threshold: float) -> list[Copy]:
    """Each row of `second` with its nearest of `first`, if that is near enough; without a `second`
    each of `first` with its nearest among those before it.

    Projections are no farther apart than what they are of, so that along the line on which the rows
    differ most only those within the threshold are compared.
    """
    if not len(first) or (second is not None and not len(second)):
        return []
    sample = first[:: max(1, len(first) // 2000)]
    line = torch.linalg.eigh(sample.T.cov() if len(sample) > 1 else sample.T @ sample)[1][:, -1]
    order = (first @ line).argsort()
    first = first[order]  # in place of the other: of many pictures there is no room for both
    places = first @ line
    rows, numbers = first, order
    if second is not None:
        numbers = (second @ line).argsort()
        rows = second[numbers]
    found = []
    for some, own in zip(rows.split(BLOCK), numbers.split(BLOCK), strict=True):
        here = some @ line
        ends = torch.stack([here.min() - threshold, here.max() + threshold])
        begin, end = torch.searchsorted(places, ends).tolist()
        if begin == end:
            continue
        least = torch.full((len(some),), torch.inf, device="cpu")
        nearest = torch.zeros_like(own)
        for part in torch.arange(begin, end, device="cpu").split(16 * BLOCK):
            distance = torch.cdist(some, first[part])
            if second is None:
                distance[order[part] >= own[:, None]] = torch.inf
            closest, at = distance.min(1)
            nearest = torch.where(closest < least, order[part][at], nearest)
            least = torch.minimum(closest, least)
        for i in (least <= threshold).nonzero()[:, 0].tolist():
            found.append(Copy(int(nearest[i]), int(own[i]), float(least[i]), exact=False))
    return found


def _together(same: dict[int, int], near: list[Copy]) -> list[Copy]:
    """The exact copies and the others, in the order of the second pictures."""
    copies = {copy.second: copy for copy in near}
    copies |= {second: Copy(first, second, 0.0, exact=True) for second, first in same.items()}
    return [copies[second] for second in sorted(copies)]
