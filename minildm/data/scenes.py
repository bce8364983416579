"""DigitScenes: pictures in which text means something (after the CLEVR scenes of Johnson et al.
2017). Chapter 09.

One or two real MNIST digits on a 32×32 canvas, each with a colour, a size and a place, on a
coloured ground. With every picture come its caption, its semantic map and its attributes, so that a
drawing can be scored exactly.

Every digit has one colour and one place that it never has in training (`held_out_colour`,
`held_out_place`): a model that draws it so all the same has put together what it had only seen
apart.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from minildm.data.datasets import ImageData
from minildm.data.scene_captions import (
    ABSENT,
    GROUNDS,
    INKS,
    PAIRS,
    PLACES,
    Attributes,
    check_attributes,
    write_captions,
)

CANVAS = 32
PIXELS = {"small": 10, "large": 15}  # the longer side of a digit's ink
GAP = 2  # at least so many rows or columns lie between two digits: 15 + 2 + 15 = 32
# a digit lies at most so far off the middle of the canvas, along an axis that its place leaves free
ROAM = 2
CONTRAST = 1.5  # the strokes of a digit made smaller are fainter; this makes up for it
GROUND = 10  # the class of the ground in a semantic map; 0 to 9 are the digits
VERTICAL, HORIZONTAL = 0, 1
SPLITS = ("seen", "held_out_colour", "held_out_place")


def held_out_colour(digits: Tensor) -> Tensor:
    """The colour that each digit never has in training: the zero is never red."""
    return digits % len(INKS)


def held_out_place(digits: Tensor) -> Tensor:
    """The place that each digit never has in training: the zero is never on the left."""
    return digits % len(PLACES)


class Scenes(NamedTuple):
    """images (N, 3, 32, 32) in [-1, 1]; N captions; maps (N, 32, 32) int64: a digit or GROUND; and
    the attributes."""

    images: Tensor
    captions: list[str]
    maps: Tensor
    attributes: Attributes


class DigitScenes:
    """Makes scenes from the digits of `mnist("train")` or `mnist("test")`, as many as one likes.

    >>> scenes = DigitScenes(mnist("train")).sample(64, torch.Generator().manual_seed(0))
    """

    def __init__(self, digits: ImageData):
        if digits.images.shape[1:] != (1, 28, 28) or len(digits.labels.unique()) != 10:
            raise ValueError(
                "expected MNIST's digits, (N, 1, 28, 28), of ten classes, "
                f"got {tuple(digits.images.shape)}"
            )
        self.images = digits.images
        self.order = digits.labels.argsort(stable=True)  # the zeros, then the ones, …
        self.counts = digits.labels.bincount()

    def sample(
        self,
        batch_size: int,
        generator: torch.Generator,
        split: str = "seen",
        count: int | None = None,
    ) -> Scenes:
        """Scenes of `count` digits, 1 or 2, or about as many of each if None; `split` as in
        `sample_attributes`."""
        return self.draw(sample_attributes(batch_size, generator, split, count), generator)

    def draw(self, attributes: Attributes, generator: torch.Generator) -> Scenes:
        """Scenes with these attributes; the handwriting, the exact place and the wording are drawn
        at random."""
        check_attributes(attributes)
        there = attributes.digits != ABSENT
        ink = self._ink(attributes, generator) * there[..., None, None]
        ground = palette(GROUNDS)[attributes.ground, :, None, None]
        inks = palette(INKS)[attributes.colours.clamp(min=0), :, None, None]
        # a sum, since the digits do not overlap
        images = ground + (ink[:, :, None] * (inks - ground[:, None])).sum(1)
        strongest, which = ink.max(1)
        maps = torch.where(
            strongest > 0.5, attributes.digits.gather(1, which.flatten(1)).view_as(which), GROUND
        )
        return Scenes(images, write_captions(attributes, generator), maps, attributes)

    def _ink(self, attributes: Attributes, generator: torch.Generator) -> Tensor:
        """How much each digit covers each pixel, (N, 2, 32, 32) in [0, 1]."""
        label, place = attributes.digits.clamp(min=0), attributes.places.clamp(min=0)
        number = (torch.rand(label.shape, generator=generator) * self.counts[label]).long()
        grey = (self.images[self.order[self.counts.cumsum(0)[label] - 1 - number], 0] + 1) / 2
        side = _lookup(PIXELS)[attributes.sizes.clamp(min=0)]
        extents = [extent(grey > 0), extent((grey > 0).mT)]  # of the ink: rows, columns
        scale = side / torch.maximum(*(end - begin for begin, end in extents))
        rows, columns = (
            _resample(begin, end, scale, _start(place, side, axis, generator) + side / 2)
            for axis, (begin, end) in zip((VERTICAL, HORIZONTAL), extents, strict=True)
        )
        return (CONTRAST * (rows @ grey @ columns.mT)).clamp(0, 1)


def sample_attributes(
    batch_size: int, generator: torch.Generator, split: str = "seen", count: int | None = None
) -> Attributes:
    """Attributes drawn at random, every place, colour, size and ground as often as every other.

    split: "seen" has no held-out combination; in "held_out_colour" and "held_out_place" one digit
    of each scene has the colour or the place that is held out for it, and nothing else is held out.
    """
    if split not in SPLITS or count not in (None, 1, 2) or batch_size < 1:
        raise ValueError(
            f"expected batch_size of at least 1, a split of {SPLITS} and a count of 1, 2 or None, "
            f"got {batch_size}, {split!r}, {count}"
        )

    def below(bound: int, *shape: int) -> Tensor:
        return torch.randint(bound, shape, generator=generator)

    n = batch_size
    two = below(2, n) == 1 if count is None else torch.full((n,), count == 2)
    alone = torch.stack([below(len(PLACES), n), torch.full((n,), ABSENT)], 1)
    places = torch.where(two[:, None], torch.tensor(PAIRS)[below(2, n)], alone)
    # which digit has the held-out combination
    strange = torch.arange(2) == (below(2, n) * two)[:, None]
    ten = torch.arange(10)
    seen_at, never_at = (
        torch.stack([ten[(held_out_place(ten) == place) == never] for place in range(len(PLACES))])
        for never in (False, True)
    )
    digits = seen_at[places].gather(2, below(seen_at.shape[1], n, 2, 1))[..., 0]
    if split == "held_out_place":
        digits = torch.where(
            strange, never_at[places].gather(2, below(never_at.shape[1], n, 2, 1))[..., 0], digits
        )
    colours = (held_out_colour(digits) + 1 + below(len(INKS) - 1, n, 2)) % len(INKS)
    if split == "held_out_colour":
        colours = torch.where(strange, held_out_colour(digits), colours)
    absent = places == ABSENT
    digits, colours, sizes = (
        x.masked_fill(absent, ABSENT) for x in (digits, colours, below(len(PIXELS), n, 2))
    )
    return Attributes(digits, colours, sizes, places, below(len(GROUNDS), n))


def held_out(attributes: Attributes) -> tuple[Tensor, Tensor]:
    """Which digits have the colour, and which the place, that training never shows them in.

    Two of (N, 2) bool.
    """
    there, digits = attributes.digits != ABSENT, attributes.digits.clamp(min=0)
    return (
        there & (held_out_colour(digits) == attributes.colours),
        there & (held_out_place(digits) == attributes.places),
    )


def palette(colours: dict[str, tuple[float, float, float]]) -> Tensor:
    """Colours in [-1, 1], (number, 3)."""
    return 2 * _lookup(colours) - 1


def _lookup(table: dict) -> Tensor:
    return torch.tensor(list(table.values()))


def extent(ink: Tensor) -> tuple[Tensor, Tensor]:
    """The first row that has ink, and the one after the last; H and 0 without ink.

    ink: (…, H, W) bool. Returns two of (…).
    """
    height = ink.shape[-2]
    rows, index = ink.any(-1), torch.arange(height)
    return torch.where(rows, index, height).amin(-1), torch.where(rows, index, -1).amax(-1) + 1


def _start(place: Tensor, side: Tensor, axis: int, generator: torch.Generator) -> Tensor:
    """The first row (axis 0) or column (1) of a box `side` long at this place, at random in the
    room that it has."""
    half = CANVAS // 2
    least, most = (half - side / 2 - ROAM).ceil(), (half - side / 2 + ROAM).floor()
    for number in PAIRS[1 - axis]:
        low, high = ((0, half - GAP / 2), (half + GAP / 2, CANVAS))[number % 2]
        least, most = (
            torch.where(place == number, low, least),
            torch.where(place == number, high - side, most),
        )
    return least + (torch.rand(place.shape, generator=generator) * (most - least + 1)).floor()


def _resample(begin: Tensor, end: Tensor, scale: Tensor, centre: Tensor) -> Tensor:
    """The matrix (…, 32, 28) that scales a column of pixels and moves the middle of [begin, end) to
    `centre`.

    Entry i, j is the length that pixel j, scaled and moved, covers of pixel i: an average over
    areas, free of aliases.
    """
    # on a whole pixel, so that small digits stay sharp
    first = (centre - scale * (end - begin) / 2 + 1e-3).floor()
    edges = first[..., None] + scale[..., None] * (torch.arange(29) - begin[..., None])
    index = torch.arange(CANVAS)[:, None]
    inside = torch.minimum(edges[..., None, 1:], index + 1) - torch.maximum(
        edges[..., None, :-1], index
    )
    return inside.clamp(min=0)
