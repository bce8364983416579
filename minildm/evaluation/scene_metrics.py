"""Did it draw what the caption asked for? Each attribute of a scene, read off the picture. Chapters
09 and 12.

A picture is segmented against its ground; then every digit's class comes from the examiner, its
colour from the median of its ink, its size and place from the box around it. On real scenes that it
has never seen, the reader is right about
everything in 99 of 100: what it finds wrong in a drawing is the drawing's fault.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minildm.data.scene_captions import ABSENT, COLOURS, GROUNDS, PAIRS, PLACES, Attributes
from minildm.data.scenes import CANVAS, GAP, GROUND, PIXELS, ROAM, extent, palette
from minildm.models.classifier import ImageClassifier

DIFFERENT = (
    0.35  # from the ground, in [-1, 1]³: the palest ink, purple on grey, lies 1.2 away from it
)
APART = (
    8.5  # pixels between the middles of two digits; the two halves of one digit are 8 apart or less
)
TOUCHING = 2  # pixels of ink that may join two digits in a drawing
FEWEST = 6  # pixels that a digit has at least


class Reading(NamedTuple):
    """What is in N pictures; in `attributes`, a digit that is not there is ABSENT. maps: (N, 32,
    32), 0 to 10."""

    attributes: Attributes
    maps: Tensor


class Verdict(NamedTuple):
    """What is right in each of N pictures, (N,) bool; in a scene of two, right means right of
    both."""

    count: Tensor
    digits: Tensor
    colours: Tensor
    sizes: Tensor
    places: Tensor
    ground: Tensor
    all_right: Tensor


class SceneScores(NamedTuple):
    """The fraction of pictures in which each is right; map_iou is None if no maps were given."""

    count: float
    digits: float
    colours: float
    sizes: float
    places: float
    ground: float
    all_right: float
    map_iou: float | None = None


def score_scenes(
    examiner: ImageClassifier, images: Tensor, asked: Attributes, maps: Tensor | None = None
) -> SceneScores:
    """Scores of images (N, 3, 32, 32) in [-1, 1] drawn from captions that asked for these
    attributes (`parse`).

    maps: (N, 32, 32), where a semantic map was given too.
    """
    reading = read_scenes(examiner, images)
    rates = [right.double().mean().item() for right in judge(reading.attributes, asked)]
    return SceneScores(*rates, None if maps is None else map_iou(reading.maps, maps))


def judge(read: Attributes, asked: Attributes) -> Verdict:
    """Compare what was read with what was asked.

    Of two digits, the one drawn and the one asked for that have most in common belong together,
    wherever they lie: if they only stand in each other's place, then that is wrong and nothing
    else. If one is missing, or one too many, then digits, colours, sizes and places are all wrong.
    """
    if read.digits.shape != asked.digits.shape:
        raise ValueError(
            f"expected as many pictures as captions, got {len(read.digits)} and {len(asked.digits)}"
        )
    same = [(a == b, a.flip(1) == b) for a, b in zip(read[:4], asked[:4], strict=True)]
    straight, crossed = (
        torch.stack(alternative) for alternative in zip(*same, strict=True)
    )  # (4, N, 2)
    swap = crossed[:3].sum((0, 2)) * 2 + crossed[3].all(1) > straight[:3].sum(
        (0, 2)
    ) * 2 + straight[3].all(1)
    count = ((read.digits != ABSENT) == (asked.digits != ABSENT)).all(1)
    right = torch.where(swap[:, None], crossed, straight).all(2) & count
    ground = read.ground == asked.ground
    return Verdict(count, *right, ground, right.all(0) & ground)


def map_iou(maps: Tensor, asked: Tensor) -> float:
    """Intersection over union of two sets of semantic maps, each class counted over all of them,
    then their mean.

    maps, asked: (N, 32, 32) int64, from 0 to GROUND. Classes that neither has are left out.
    """
    if maps.shape != asked.shape:
        raise ValueError(
            f"expected as many maps, as large as those asked, {tuple(asked.shape)}, got {tuple(maps.shape)}"
        )
    pairs = (
        (asked * (GROUND + 1) + maps)
        .flatten()
        .bincount(minlength=(GROUND + 1) ** 2)
        .view(GROUND + 1, GROUND + 1)
    )
    union = pairs.sum(0) + pairs.sum(1) - pairs.diag()
    return (pairs.diag()[union > 0] / union[union > 0]).mean().item()


@torch.no_grad()
def read_scenes(examiner: ImageClassifier, images: Tensor, batch_size: int = 250) -> Reading:
    """What is in images (N, 3, 32, 32) in [-1, 1]. The examiner: MNIST's, in evaluation mode."""
    if images.shape[1:] != (3, CANVAS, CANVAS) or not len(images):
        raise ValueError(f"expected images (N, 3, {CANVAS}, {CANVAS}), got {tuple(images.shape)}")
    if examiner.training:
        raise ValueError(
            "expected the examiner in evaluation mode (examiner.eval()), got training mode"
        )
    readings = [_read(examiner, batch.float().clamp(-1, 1)) for batch in images.split(batch_size)]
    attributes = Attributes(
        *map(torch.cat, zip(*(reading.attributes for reading in readings), strict=True))
    )
    return Reading(attributes, torch.cat([reading.maps for reading in readings]))


def _read(examiner: ImageClassifier, images: Tensor) -> Reading:
    ground = images.flatten(2).median(2).values  # (N, 3): most of every scene is ground
    difference = images - ground[:, :, None, None]
    distance = difference.norm(dim=1)
    parts, places = _separate(_without_specks(distance > DIFFERENT))
    there = parts.flatten(2).sum(2) >= FEWEST  # (N, 2)

    # The colour: the median of the pixels that differ most from the ground, which no edge has mixed
    # with it.
    core = parts & (
        distance[:, None] >= 0.8 * (distance[:, None] * parts).amax((2, 3), keepdim=True)
    )
    ink = (
        images[:, None]
        .masked_fill(~core[:, :, None], torch.nan)
        .flatten(3)
        .nanmedian(3)
        .values.nan_to_num()
    )  # (N, 2, 3)
    contrast = ink - ground[:, None]
    cover = (
        torch.einsum("nchw,nkc->nkhw", difference, contrast)
        / contrast.square().sum(2)[..., None, None]
    )
    cover = (
        (cover * parts).nan_to_num().clamp(0, 1)
    )  # as much of each pixel as is ink, (N, 2, 32, 32)

    rows, columns = extent(parts), extent(parts.mT)
    side = torch.maximum(rows[1] - rows[0], columns[1] - columns[0])
    middles = (
        torch.stack([columns[0] + columns[1], rows[0] + rows[1]], 2) / 2 - CANVAS / 2
    )  # x and y, (N, 2, 2)
    places = torch.where(there.all(1)[:, None], places, _place_alone(middles[:, :1]))
    digits = examiner(_as_mnist(cover, side).flatten(0, 1)[:, None]).argmax(1).view_as(there)
    colours = torch.cdist(ink, palette(COLOURS)).argmin(2)
    sizes = (side > sum(PIXELS.values()) / len(PIXELS)).long()
    strongest, which = cover.max(1)
    maps = torch.where(strongest > 0.5, digits.gather(1, which.flatten(1)).view_as(which), GROUND)
    named = torch.cdist(ground, palette(GROUNDS)).argmin(1)
    return Reading(
        Attributes(
            *(x.masked_fill(~there, ABSENT) for x in (digits, colours, sizes, places)), named
        ),
        maps,
    )


def _without_specks(mask: Tensor) -> Tensor:
    """Leave out pixels of (N, H, W) bool that have no neighbour, straight or diagonal."""
    neighbours = F.avg_pool2d(mask[:, None].float(), 3, 1, 1, divisor_override=1)[:, 0]
    return mask & (neighbours > 1)


def _separate(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut ink (N, 32, 32) into the left or upper digit and the other, (N, 2, 32, 32) bool, with
    their places, (N, 2).

    Of all cuts between two columns or two rows it takes one through the least ink (none, unless all
    the ink is longer than a digit can be), and of several the one whose sides lie farthest apart.
    Where the sides are not two digits' distance apart, or one of them is next to nothing, all is
    one digit.
    """
    lines = torch.stack(
        [mask.sum(1), mask.sum(2)], 1
    ).float()  # the ink of every column, of every row: (N, 2, 32)
    positions = torch.arange(CANVAS)
    before, moment = (
        lines.cumsum(2)[..., :-1],
        (lines * positions).cumsum(2)[..., :-1],
    )  # of cut c, after line c
    total, moments = lines.sum(2, keepdim=True), (lines * positions).sum(2, keepdim=True)
    after = total - before
    apart = (moments - moment) / after.clamp(min=1) - moment / before.clamp(min=1)
    crossed = torch.minimum(lines[..., :-1], lines[..., 1:])
    begin, end = extent(lines[..., None] > 0)
    too_long = (end - begin)[..., None] > max(PIXELS.values()) + GAP  # for one digit
    possible = (
        (crossed <= TOUCHING * too_long)
        & (apart >= APART)
        & (torch.minimum(before, after) >= FEWEST)
    )
    best, cut = torch.where(possible, apart - CANVAS * crossed, -torch.inf).flatten(1).max(1)
    axis, line = cut // (CANVAS - 1), cut % (CANVAS - 1)
    first = positions <= line[:, None]  # (N, 32)
    first = (
        torch.where((axis == 0)[:, None, None], first[:, None, :], first[:, :, None])
        | best.isinf()[:, None, None]
    )
    return torch.stack([mask & first, mask & ~first], 1), torch.tensor(PAIRS)[axis]


def _place_alone(middles: Tensor) -> Tensor:
    """The place of a digit whose middle lies x, y off the canvas's middle: (N, 1, 2) -> (N, 2), the
    second ABSENT."""
    off, axis = middles[:, 0].abs().max(1)
    positive = (middles[:, 0].gather(1, axis[:, None])[:, 0] > 0).long()
    place = torch.where(
        off <= 2 * ROAM, PLACES.index("centre"), torch.tensor(PAIRS)[axis, positive]
    )
    return torch.stack([place, torch.full_like(place, ABSENT)], 1)


def _as_mnist(cover: Tensor, side: Tensor) -> Tensor:
    """As MNIST has digits, 20 pixels long, their centre of mass in the middle: (N, 2, 32, 32) ->
    (N, 2, 28, 28)."""
    flat, index = cover.flatten(0, 1), torch.arange(CANVAS) + 0.5
    mass = flat.sum((1, 2)).clamp(min=1e-6)
    centre = (
        torch.stack([(flat.sum(1) * index).sum(1), (flat.sum(2) * index).sum(1)], 1) / mass[:, None]
    )  # x and y
    steps = side.flatten()[:, None] / 20 * (torch.arange(28) - 13.5)
    x, y = ((centre[:, i, None] + steps) / (CANVAS / 2) - 1 for i in (0, 1))
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), 3)
    large = F.grid_sample(flat[:, None], grid, mode="bicubic", align_corners=False).clamp(0, 1)
    return 2 * large.view(*cover.shape[:2], 28, 28) - 1
