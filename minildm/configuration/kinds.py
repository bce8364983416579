"""Of what kind a value of a configuration is, by the annotation of the argument that takes it: JSON
knows fewer kinds than Python. Chapter 11."""

from __future__ import annotations

from numbers import Integral, Real
from types import UnionType
from typing import Any, get_args, get_origin

from torch import Tensor

LARGEST = 1_000_000  # more than any width, vocabulary or number of timesteps that was ever trained
MOST = 3e38  # what float32 can hold
MOST_WHOLE = 2**63  # below it a whole number is one that PyTorch takes for a fraction


def expected_kind(key: str, value: object, kind: object) -> str:
    """In words, what the argument called `key`, annotated with `kind`, should be; "" if the value
    is that."""
    if not is_a(value, kind):
        large = isinstance(value, int) and abs(value) >= MOST_WHOLE and is_a(0.5, kind)
        return in_words(kind) + (" below 2**63, or one with a point" if large else "")
    # a small number that keeps a division from being one by 0, and a root from being NaN
    if key.endswith("_eps") and isinstance(value, (int, float)) and value <= 0:
        return "a number above 0"
    return ""


def is_a(value: object, kind: object) -> bool:
    """Is `value`, as JSON has it, of the annotated kind? Whole numbers do for fractions, none is
    negative or above LARGEST; no fraction is NaN."""
    if kind is Any:
        return True
    if isinstance(kind, UnionType):
        return any(is_a(value, each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        each, rest = get_args(kind)
        return (
            isinstance(value, tuple)
            and all(is_a(v, each) for v in value)
            and (rest is ... or len(value) == 2)
        )
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST
    if kind is float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return False
        return abs(value) <= MOST and not (isinstance(value, int) and abs(value) >= MOST_WHOLE)
    return isinstance(kind, type) and isinstance(value, kind)


def in_words(kind: object) -> str:
    """The kinds that constructors are annotated with, as an error's reader knows them."""
    if isinstance(kind, UnionType):
        return " or ".join(map(in_words, get_args(kind)))
    if get_origin(kind) is tuple:
        each, rest = get_args(kind)
        form = "a list, each entry" if rest is ... else "two entries, each"
        return f"{form} {in_words(each)}"
    words: dict[object, str] = {
        int: f"a whole number from 0 to {LARGEST}",
        float: "a number",
        bool: "true or false",
        str: "a text",
    }
    return words.get(kind, "null" if kind is type(None) else str(kind))


def is_count(value: object) -> bool:
    """Is it a whole number of 1 or more, Python's or NumPy's?"""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def checked_count(name: str, count: object) -> int:
    """The number as Python's own, which is all that PyTorch takes; ValueError unless it is a whole
    one of 1 or more."""
    if not isinstance(count, Integral) or not is_count(count):
        raise ValueError(f"expected a whole {name} of 1 or more, got {count!r}")
    return int(count)


def as_float(value: object) -> float | None:
    """A number, NumPy's too, or a tensor of one, as Python's own; None for all else, and for what
    float32 cannot hold."""
    if isinstance(value, bool) or not isinstance(value, (Real, Tensor)):
        return None
    if isinstance(value, Tensor) and (value.numel() != 1 or value.is_complex()):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of 400 digits
        return None
    return number if abs(number) <= MOST else None
