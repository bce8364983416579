"""What hidden tests are written with, what they come to, and `check`, which runs one inside a
teacher's notebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minildm.grading.assignment import Part, course_rng
from minildm.grading.sandbox.runner import Definitions
from minildm.grading.sandbox.wire import decode, encode


class Mark(NamedTuple):
    """One part's points, and why."""

    part: str
    title: str
    points: float
    out_of: float
    message: str


def same(got: Any, expected: Any, what: str, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """AssertionError, in words for a student, unless shape and values agree. The expected numbers
    are not told."""
    assert got is not None, f"{what}: nothing was returned"
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype.kind in "biuf", f"{what}: expected numbers, got {got.dtype}"
    assert got.shape == expected.shape, (
        f"{what}: expected the shape {expected.shape}, got {got.shape}"
    )
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    assert np.isfinite(got).all(), f"{what}: not all numbers are finite"
    wrong = ~np.isclose(got, expected, rtol=rtol, atol=atol)
    by = abs(got - expected).max(initial=0)
    assert not wrong.any(), (
        f"{what}: {wrong.mean():.0%} of the numbers are wrong, by up to {by:.3g}"
    )


def seed_of(rng: np.random.Generator) -> int:
    """A seed for torch, from the course key's numbers."""
    return int(rng.integers(2**31))


def check(
    given: Callable, ask: Callable, judge: Callable, names: dict[str, Any], key: str = "teacher"
) -> None:
    """Run a hidden test here and now, on what this notebook defines: for whoever writes or tries an
    assignment.

    The grader does not call it: there, `ask` runs beside the submission and `judge` in the grader,
    and what they say to each other travels as it does here.
    """
    question = given(course_rng(key, judge.__module__))
    answer = ask(Definitions(names), decode(encode(question)))
    judge(question, decode(encode(answer)))


def mark_part(part: Part, reply: dict[str, Any]) -> Mark:
    """Full points if the judge finds nothing to object to, else none, with what it said."""
    if reply["error"]:
        return Mark(part.name, part.title, 0, part.points, str(reply["error"])[:600])
    try:
        part.judge(part.given, reply["answer"])
    except AssertionError as error:
        text = " ".join(str(error).split())
        return Mark(part.name, part.title, 0, part.points, text[:600] or "the answer is not right")
    except Exception as error:  # an answer of the wrong kind, which the judge could not read
        text = f"the answer cannot be read: {type(error).__name__}: {error}"
        return Mark(part.name, part.title, 0, part.points, text[:600])
    return Mark(part.name, part.title, part.points, part.points, "right")
