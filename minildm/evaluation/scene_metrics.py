"""Did it draw what the caption asked for? Each attribute of a scene, read off the picture.
Chapters 09 and 12.

A picture is segmented against its ground; then every digit's class comes from the examiner, its
colour from the median of its ink, its size and place from the box around it. On real scenes that it
has never seen, the reader is right about everything in 99 of 100: what it finds wrong in a drawing
is the drawing's fault.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minildm.configuration.kinds import checked_count
from minildm.data.scene_captions import ABSENT, GROUNDS, INKS, PAIRS, PLACES, Attributes
from minildm.data.scenes import CANVAS, GAP, GROUND, PIXELS, ROAM, extent, palette
from minildm.evaluation.metrics import EXACT
from minildm.models.classifier import ImageClassifier

# How far ink lies from the ground, in [-1, 1]³: the palest, purple on grey, lies 1.2 away from it.
DIFFERENT = 0.35
# Pixels between the middles of two digits; the two halves of one digit are 8 apart or less.
APART = 8.5
TOUCHING = 2  # pixels of ink that may join two digits in a drawing
FEWEST = 6  # pixels that a digit has at least


class Reading(NamedTuple):
    """What is in N pictures; in `attributes`, a digit that is not there is ABSENT.

    maps: (N, 32, 32), 0 to 10.
    """

    attributes: Attributes
    maps: Tensor


@dataclass(frozen=True)
class Verdict:
    """What is right in each of N pictures, (N,) bool; in a scene of two, right means right of
    both."""

    count: Tensor
    digits: Tensor
    colours: Tensor
    sizes: Tensor
    places: Tensor
    ground: Tensor
    all_right: Tensor


@dataclass(frozen=True)
class SceneScores:
    """The fraction of pictures in which each is right; map_iou is None if no maps were given."""

    count: float
    digits: float
    colours: float
    sizes: float
    places: float
    ground: float
    all_right: float
    map_iou: float | None = None


class ScoresByKind(dict[str, SceneScores]):
    """The scores of each kind of prompt, by its name."""

    UNIT: ClassVar[str] = "samples of each kind"
    """What the number of samples under a table counts."""

    def rows(self, floor: ScoresByKind) -> list[str]:
        """A table's lines: a kind each, and beside its scores how many real scenes are all
        right."""
        names = [field.name for field in fields(Verdict)]
        heads = [name.replace("_", " ") for name in names]
        lines = [f"{'':24}" + "".join(f"{head:>11}" for head in [*heads, "real"])]
        for kind, scores in self.items():
            rates = [getattr(scores, name) for name in names]
            rates.append(floor[kind].all_right)
            lines.append(f"{kind:24}" + "".join(f"{rate:>11.1%}" for rate in rates))
        return lines


def score_scenes(
    examiner: ImageClassifier, images: Tensor, asked: Attributes, maps: Tensor | None = None
) -> SceneScores:
    """Scores of images (N, 3, 32, 32) in [-1, 1] drawn from captions that asked for these
    attributes (`parse_captions`).

    maps: (N, 32, 32), where a semantic map was given too.
    """
    reading = read_scenes(examiner, images)
    verdict = judge(reading.attributes, asked)
    rates = {name: right.double().mean().item() for name, right in asdict(verdict).items()}
    return SceneScores(**rates, map_iou=None if maps is None else map_iou(reading.maps, maps))


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
    # digits, colours, sizes and places, with each digit as asked, or each in the other's stead
    straight = torch.stack([a == b for a, b in zip(read[:4], asked[:4], strict=True)])  # (4, N, 2)
    crossed = torch.stack([a.flip(1) == b for a, b in zip(read[:4], asked[:4], strict=True)])
    swap = _in_common(crossed) > _in_common(straight)
    count = ((read.digits != ABSENT) == (asked.digits != ABSENT)).all(1)
    right = torch.where(swap[:, None], crossed, straight).all(2) & count  # (4, N)
    ground = read.ground == asked.ground
    return Verdict(
        count=count,
        digits=right[0],
        colours=right[1],
        sizes=right[2],
        places=right[3],
        ground=ground,
        all_right=right.all(0) & ground,
    )


def _in_common(same: Tensor) -> Tensor:
    """(4, N, 2) bool -> (N,): digits, colours and sizes count; places only decide where those are
    level."""
    return 2 * same[:3].sum((0, 2)) + same[3].all(1)


def map_iou(maps: Tensor, asked: Tensor) -> float:
    """Intersection over union of two sets of semantic maps, each class counted over all of them,
    then their mean.

    maps, asked: (N, 32, 32) int64, from 0 to GROUND. Classes that neither has are left out.
    """
    if maps.shape != asked.shape:
        raise ValueError(
            f"expected as many maps, as large as those asked, {tuple(asked.shape)}, "
            f"got {tuple(maps.shape)}"
        )
    classes = GROUND + 1
    pairs = (asked * classes + maps).flatten().bincount(minlength=classes**2)
    pairs = pairs.view(classes, classes)  # how many pixels have the one class asked, the other read
    both = pairs.diag()
    either = pairs.sum(0) + pairs.sum(1) - both
    there = either > 0
    return (both[there] / either[there]).mean().item()


@torch.no_grad()
def read_scenes(examiner: ImageClassifier, images: Tensor, batch_size: int = 250) -> Reading:
    """What is in images (N, 3, 32, 32) in [-1, 1]. The examiner: MNIST's, in evaluation mode."""
    if images.shape[1:] != (3, CANVAS, CANVAS) or not len(images):
        raise ValueError(f"expected images (N, 3, {CANVAS}, {CANVAS}), got {tuple(images.shape)}")
    if examiner.training:
        raise ValueError(
            "expected the examiner in evaluation mode (examiner.eval()), got training mode"
        )
    batches = images.split(checked_count("batch_size", batch_size))
    readings = [_read(examiner, batch.float().clamp(-1, 1)) for batch in batches]
    parts = zip(*(reading.attributes for reading in readings), strict=True)
    attributes = Attributes(*map(torch.cat, parts))
    return Reading(attributes, torch.cat([reading.maps for reading in readings]))


def _read(examiner: ImageClassifier, images: Tensor) -> Reading:
    """One batch. Of the two digits that a scene may have, the first is the left or upper one."""
    ground = images.flatten(2).median(2).values  # (N, 3): most of every scene is ground
    difference = images - ground[:, :, None, None]
    distance = difference.norm(dim=1)  # (N, 32, 32)
    parts, places = _separate(_without_specks(distance > DIFFERENT))
    there = parts.flatten(2).sum(2) >= FEWEST  # (N, 2)
    ink = _ink(images, distance, parts)
    cover = _cover(difference, ink - ground[:, None], parts)

    top, bottom = extent(parts)
    left, right = extent(parts.mT)
    side = torch.maximum(bottom - top, right - left)  # (N, 2)
    middles = torch.stack([left + right, top + bottom], 2) / 2 - CANVAS / 2  # x and y, (N, 2, 2)
    places = torch.where(there.all(1)[:, None], places, _place_alone(middles[:, :1]))
    sizes = (side > sum(PIXELS.values()) / len(PIXELS)).long()
    colours = torch.cdist(ink, palette(INKS), compute_mode=EXACT).argmin(2)
    digits = examiner(_as_mnist(cover, side).flatten(0, 1)[:, None]).argmax(1).view_as(there)
    attributes = Attributes(
        digits=digits.masked_fill(~there, ABSENT),
        colours=colours.masked_fill(~there, ABSENT),
        sizes=sizes.masked_fill(~there, ABSENT),
        places=places.masked_fill(~there, ABSENT),
        ground=torch.cdist(ground, palette(GROUNDS), compute_mode=EXACT).argmin(1),
    )
    strongest, which = cover.max(1)  # (N, 32, 32)
    drawn = digits.gather(1, which.flatten(1)).view_as(which)
    return Reading(attributes, maps=torch.where(strongest > 0.5, drawn, GROUND))


def _ink(images: Tensor, distance: Tensor, parts: Tensor) -> Tensor:
    """The colour of each digit, (N, 2, 3): the median of those of its pixels that differ most from
    the ground, which no edge has mixed with it.

    images: (N, 3, 32, 32); distance: of each pixel from the ground, (N, 32, 32); parts: (N, 2, 32,
    32) bool.
    """
    of_digit = distance[:, None] * parts
    core = parts & (distance[:, None] >= 0.8 * of_digit.amax((2, 3), keepdim=True))
    inside = images[:, None].masked_fill(~core[:, :, None], torch.nan)  # (N, 2, 3, 32, 32)
    return inside.flatten(3).nanmedian(3).values.nan_to_num()


def _cover(difference: Tensor, contrast: Tensor, parts: Tensor) -> Tensor:
    """How much of each pixel is ink: its difference from the ground along the ink's.

    difference: (N, 3, 32, 32); contrast, the ink's difference: (N, 2, 3); parts: (N, 2, 32, 32)
    bool. Returns (N, 2, 32, 32) in [0, 1].
    """
    along = torch.einsum("nchw,nkc->nkhw", difference, contrast)
    cover = along / contrast.square().sum(2)[..., None, None]
    return (cover * parts).nan_to_num().clamp(0, 1)


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
    # the ink of every column, of every row, (N, 2, 32); cut c lies after line c, (N, 2, 31)
    lines = torch.stack([mask.sum(1), mask.sum(2)], 1).float()
    moments = lines * torch.arange(CANVAS)
    before = lines.cumsum(2)[..., :-1]
    moment_before = moments.cumsum(2)[..., :-1]
    after = lines.sum(2, keepdim=True) - before
    moment_after = moments.sum(2, keepdim=True) - moment_before
    apart = moment_after / after.clamp(min=1) - moment_before / before.clamp(min=1)

    crossed = torch.minimum(lines[..., :-1], lines[..., 1:])
    begin, end = extent(lines[..., None] > 0)
    too_long = (end - begin)[..., None] > max(PIXELS.values()) + GAP  # for one digit
    enough = torch.minimum(before, after) >= FEWEST
    possible = (crossed <= TOUCHING * too_long) & (apart >= APART) & enough
    merit = torch.where(possible, apart - CANVAS * crossed, -torch.inf)  # least ink, then farthest
    best, cut = merit.flatten(1).max(1)
    axis, line = cut // (CANVAS - 1), cut % (CANVAS - 1)

    until = torch.arange(CANVAS) <= line[:, None]  # (N, 32)
    columns = (axis == 0)[:, None, None]
    first = torch.where(columns, until[:, None, :], until[:, :, None])
    first = first | best.isinf()[:, None, None]  # no cut is possible: all is one digit
    return torch.stack([mask & first, mask & ~first], 1), torch.tensor(PAIRS)[axis]


def _place_alone(middles: Tensor) -> Tensor:
    """The place of a digit whose middle lies x, y off the canvas's middle: (N, 1, 2) -> (N, 2), the
    second ABSENT."""
    middle = middles[:, 0]
    off, axis = middle.abs().max(1)
    positive = (middle.gather(1, axis[:, None])[:, 0] > 0).long()
    outside = torch.tensor(PAIRS)[axis, positive]
    place = torch.where(off <= 2 * ROAM, PLACES.index("centre"), outside)
    return torch.stack([place, torch.full_like(place, ABSENT)], 1)


def _as_mnist(cover: Tensor, side: Tensor) -> Tensor:
    """As MNIST has digits, 20 pixels long, their centre of mass in the middle: (N, 2, 32, 32) ->
    (N, 2, 28, 28)."""
    flat = cover.flatten(0, 1)
    index = torch.arange(CANVAS) + 0.5
    mass = flat.sum((1, 2)).clamp(min=1e-6)
    centre_x = (flat.sum(1) * index).sum(1) / mass
    centre_y = (flat.sum(2) * index).sum(1) / mass
    steps = side.flatten()[:, None] / 20 * (torch.arange(28) - 13.5)
    x = (centre_x[:, None] + steps) / (CANVAS / 2) - 1
    y = (centre_y[:, None] + steps) / (CANVAS / 2) - 1
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), 3)
    large = F.grid_sample(flat[:, None], grid, mode="bicubic", align_corners=False).clamp(0, 1)
    return 2 * large.view(*cover.shape[:2], 28, 28) - 1
