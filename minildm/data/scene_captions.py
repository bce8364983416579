"""What is in a scene of digits, as numbers and as a caption, and the way from each to the other.
Chapter 09.

The grammar is small and its words are few (`caption_words`), so that a tokenizer can learn all of
them and a caption can be read back (`parse_captions`).
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from minildm.data.captions import CLASS_NAMES

ABSENT = -1  # every attribute of the second digit, where there is only one

SIZES = ("small", "large")
DIGITS = CLASS_NAMES["mnist"]
INKS = {
    "red": (0.90, 0.10, 0.10),
    "green": (0.05, 0.65, 0.15),
    "blue": (0.10, 0.25, 0.95),
    "yellow": (1.00, 0.85, 0.00),
    "purple": (0.70, 0.05, 0.80),
    "cyan": (0.00, 0.80, 0.90),
}
GROUNDS = {
    "black": (0.0, 0.0, 0.0),
    "white": (1.0, 1.0, 1.0),
    "grey": (0.6, 0.6, 0.6),
    "pink": (1.0, 0.75, 0.75),
}
PLACES = ("left", "right", "top", "bottom", "centre")
PAIRS = ((0, 1), (2, 3))  # the places of two digits: the first is always the left or the upper one

_EXAMPLE = "a small red three above a large blue seven on a white background"

# The grammar. The first of each is the one that scores use.
SIZE_WORDS = (("small", "little"), ("large", "big"))
PLACE_WORDS = (
    ("on the left",),
    ("on the right",),
    ("at the top",),
    ("at the bottom",),
    ("in the centre", "in the middle"),
)
ALONE = (
    "{first} {place} on a {ground} background",
    "{place} {first} on a {ground} background",
    "a {ground} background with {first} {place}",
)
TOGETHER = (
    (
        "{first} to the left of {second} on a {ground} background",
        "{second} to the right of {first} on a {ground} background",
        "{first} on the left and {second} on the right on a {ground} background",
        "a {ground} background with {first} to the left of {second}",
    ),
    (
        "{first} above {second} on a {ground} background",
        "{second} below {first} on a {ground} background",
        "{first} at the top and {second} at the bottom on a {ground} background",
        "a {ground} background with {first} above {second}",
    ),
)


class Attributes(NamedTuple):
    """What is in each of N scenes; of two digits the left or upper one stands first. All int64.

    digits, colours, sizes, places: (N, 2), numbers into DIGITS, INKS, SIZES and PLACES; the
    second is ABSENT in a scene of one digit. ground: (N,), a number into GROUNDS.
    """

    digits: Tensor
    colours: Tensor
    sizes: Tensor
    places: Tensor
    ground: Tensor


def check_attributes(attributes: Attributes) -> None:
    """ValueError if there are no such scenes."""
    digits, colours, sizes, places, ground = attributes
    n = len(ground)
    shapes = [tuple(x.shape) for x in attributes]
    if shapes != [(n, 2)] * 4 + [(n,)]:
        raise ValueError(f"expected four of shape (N, 2) and ground of shape (N,), got {shapes}")
    for name, values, most in zip(
        Attributes._fields,
        attributes,
        (10, len(INKS), len(SIZES), len(PLACES), len(GROUNDS)),
        strict=True,
    ):
        least = values.new_zeros(values.shape)
        if values.ndim == 2:
            least[:, 1] = torch.where(digits[:, 1] == ABSENT, ABSENT, 0)
            if not (values[:, 1] == ABSENT).equal(digits[:, 1] == ABSENT):
                raise ValueError(
                    f"expected {name} to be {ABSENT} where the second digit is absent, "
                    "and only there"
                )
        if ((values < least) | (values >= most)).any():
            raise ValueError(f"expected {name} from 0 to {most - 1}, got {values.tolist()}")
    pairs = places[digits[:, 1] != ABSENT]
    if not (pairs[:, None] == torch.tensor(PAIRS)).all(2).any(1).all():
        raise ValueError(
            f"expected the places of two digits to be one of {PAIRS}, got {pairs.tolist()}"
        )


def write_captions(attributes: Attributes, generator: torch.Generator | None = None) -> list[str]:
    """A caption for each scene: the plain one, which scores use, or any phrasing with a
    generator."""
    check_attributes(attributes)
    shape = len(attributes.ground), 4
    randoms = torch.zeros(shape) if generator is None else torch.rand(shape, generator=generator)
    captions = []
    for digits, colours, sizes, places, ground, random in zip(
        *(x.tolist() for x in (*attributes, randoms)), strict=True
    ):
        things = [
            f"a {_choose(SIZE_WORDS[size], r)} {list(INKS)[colour]} {DIGITS[digit]}"
            for digit, colour, size, r in zip(digits, colours, sizes, random[:2], strict=True)
            if digit != ABSENT
        ]
        templates = ALONE if len(things) == 1 else TOGETHER[PAIRS.index(tuple(places))]
        captions.append(
            _choose(templates, random[2]).format(
                first=things[0],
                second=things[-1],
                place=_choose(PLACE_WORDS[places[0]], random[3]),
                ground=list(GROUNDS)[ground],
            )
        )
    return captions


def parse_captions(captions: list[str]) -> Attributes:
    """The attributes that captions of this grammar speak of: the way back from
    `write_captions`."""
    rows = []
    for caption in captions:
        found = next(
            (
                (pair, match)
                for pair, pattern in _patterns()
                if (match := pattern.fullmatch(caption))
            ),
            None,
        )
        if found is None:
            raise ValueError(f'expected a caption like "{_EXAMPLE}", got {caption!r}')
        pair, match = found
        said = match.groupdict()
        things = [_read(said[name]) for name in ("first", "second") if said.get(name)]
        places = pair or (_index(PLACE_WORDS, said["place"]),)
        columns = [*zip(*things, strict=True), places]
        rows.append(
            ([list(column) + [ABSENT] * (2 - len(column)) for column in columns], said["ground"])
        )
    numbers = torch.tensor([row for row, _ in rows], dtype=torch.int64).reshape(-1, 4, 2)
    digits, colours, sizes, places = numbers.unbind(1)
    grounds = torch.tensor([list(GROUNDS).index(ground) for _, ground in rows])
    return Attributes(digits, colours, sizes, places, grounds)


def caption_words() -> list[str]:
    """Every word that a caption can hold, in alphabetical order: what a tokenizer has to know."""
    fixed = re.sub(r"{\w+}", "", " ".join((*ALONE, *TOGETHER[0], *TOGETHER[1], "a")))
    choices = (*DIGITS, *INKS, *GROUNDS, *sum(SIZE_WORDS + PLACE_WORDS, ()))
    return sorted({*fixed.split(), *" ".join(choices).split()})


@cache
def _patterns() -> list[tuple[tuple[int, int] | None, re.Pattern]]:
    """(the places of two digits, the pattern) of every template; places None for a digit alone."""

    def any_of(choices) -> str:
        return f"(?:{'|'.join(choices)})"

    thing = " ".join(["a", any_of(sum(SIZE_WORDS, ())), any_of(INKS), any_of(DIGITS)])
    parts = {
        "first": thing,
        "second": thing,
        "place": any_of(sum(PLACE_WORDS, ())),
        "ground": any_of(GROUNDS),
    }
    named = {name: f"(?P<{name}>{pattern})" for name, pattern in parts.items()}
    templates = [(None, x) for x in ALONE] + [
        (p, x) for p, group in zip(PAIRS, TOGETHER, strict=True) for x in group
    ]
    return [(places, re.compile(template.format(**named))) for places, template in templates]


def _read(thing: str) -> tuple[int, int, int]:
    """ "a small red three" -> the numbers of digit, colour and size."""
    _, size, colour, digit = thing.split()
    return DIGITS.index(digit), list(INKS).index(colour), _index(SIZE_WORDS, size)


def _index(groups: tuple[tuple[str, ...], ...], word: str) -> int:
    return next(i for i, group in enumerate(groups) if word in group)


def _choose(choices: tuple[str, ...], random: float) -> str:
    return choices[int(random * len(choices))]
