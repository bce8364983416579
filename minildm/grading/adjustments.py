"""What a teacher changes in a grade: adjustments.csv, which is read, never written, and applied
where everybody sees it.

    student,assignment,what,value,reason
    *,1_forward_diffusion,deadline,2026-10-12 23:59,
    *,*,penalty,10,a day that has begun
    ada,1_forward_diffusion,extension,3,was ill
    bo,*,bonus,1.5,found a mistake in the text
    cy,1_forward_diffusion,override,12,graded on paper
    ada,6_project,group,team 1,
    bo,6_project,group,team 1,
    bo,6_project,comment,Show me your second figure.,

A deadline is on the LMS's clock; an extension is days, or another deadline. The penalty is per cent
of what was earned, for each day that has begun; who is late by Canvas's word, with no time, is late
by one. Whoever shares a group has what one of them handed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from minildm.grading.grade import Result
from minildm.grading.people import exactly
from minildm.grading.tables import read_table

FILE = "adjustments.csv"
COLUMNS = ["student", "assignment", "what", "value"]
EVERY = "*"
KINDS = ("override", "bonus", "penalty", "deadline", "extension", "group", "comment")


class Adjustment(NamedTuple):
    """A row: whose grade ("*": everybody's), what changes, and why. `value` is as typed, `number`
    its points, per cent or days, `time` its deadline."""

    student: str
    assignment: str
    what: str
    value: str
    reason: str
    number: float = 0
    time: datetime | None = None

    def concerns(self, student: str, assignment: str) -> bool:
        """Whether it is about this grade."""
        return self.student in (EVERY, exactly(student)) and self.assignment in (EVERY, assignment)

    @property
    def because(self) -> str:
        """Its reason, to be put behind what it does."""
        return f" ({self.reason})" if self.reason else ""


def read_adjustments(out: Path, most: dict[str, float]) -> list[Adjustment]:
    """The rows of adjustments.csv; [] if there is none. `most`: the points of each assignment. A
    ValueError names the row and the column of what cannot be."""
    found: list[Adjustment] = []
    for number, cells_read in enumerate(read_table(out / FILE, COLUMNS), 2):
        where = f"{FILE}, row {number}"
        if None in cells_read:
            raise ValueError(f"{where}: expected a heading above every column, got a cell without")
        cells = {name: (cells_read.get(name) or "").strip() for name in [*COLUMNS, "reason"]}
        if not any(cells.values()):
            continue
        if not cells["student"]:
            raise ValueError(f"{where}, column student: expected a student or {EVERY}, got nothing")
        if cells["assignment"] not in (EVERY, *most):
            known = ", ".join(most)
            raise ValueError(
                f"{where}, column assignment: expected {EVERY} or one of {known}, "
                f"got {cells['assignment']!r}"
            )
        if cells["what"] not in KINDS:
            raise ValueError(
                f"{where}, column what: expected one of {', '.join(KINDS)}, got {cells['what']!r}"
            )
        row = Adjustment(
            student=cells["student"],
            assignment=cells["assignment"],
            what=cells["what"],
            value=cells["value"],
            reason=cells["reason"],
        )
        found.append(checked(row, most, f"{where}, column value"))
    return found


def checked(row: Adjustment, most: dict[str, float], where: str) -> Adjustment:
    """The row with its value as a number or a time."""
    value = row.value.replace(",", ".").removesuffix("%").strip()
    if row.what in ("group", "comment"):
        expected = "a text"
        if row.value:
            return row
    elif row.what == "deadline":
        expected = "a time like 2026-10-12 23:59"
        if time := time_of(row.value):
            return row._replace(time=time)
    else:
        limit = max(most.values()) if row.assignment == EVERY else most[row.assignment]
        low, high = {
            "override": (0, limit),
            "bonus": (-limit, limit),
            "penalty": (0, 100),
            "extension": (0, 366),
        }[row.what]
        expected = f"a number from {low:g} to {high:g}"
        if row.what == "extension":
            expected = f"days, {expected}, or a time like 2026-10-12 23:59"
            if time := time_of(row.value):
                return row._replace(time=time)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if low <= number <= high:  # nor nan
            return row._replace(number=number)
    raise ValueError(f"{where}: expected {expected} for {row.what}, got {row.value!r}")


def time_of(text: str) -> datetime | None:
    """A date with a clock's time; None for anything else."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None) if ":" in text else None
    except ValueError:
        return None


def adjusted(
    points: float | None, result: Result, rows: Iterable[Adjustment]
) -> tuple[float | None, list[str]]:
    """The points with all that concerns them, and a sentence for each change. None stays None, but
    for an override."""
    by_kind = {kind: [row for row in rows if row.what == kind] for kind in KINDS}
    total, said = points, []
    days, sentence = days_late(result, by_kind["deadline"], by_kind["extension"])
    said += [sentence] if sentence else []
    if total is not None and days and by_kind["penalty"]:
        row = by_kind["penalty"][-1]
        lost = min(total * row.number * days / 100, total)
        total -= lost
        each = f"for each of {days} days" if days > 1 else "for the day"
        said.append(f"{lost:.4g} less: {row.number:g} % {each}{row.because}")
    for row in by_kind["bonus"]:
        total = None if total is None else max(total + row.number, 0)
        said.append(f"{abs(row.number):g} {'less' if row.number < 0 else 'more'}{row.because}")
    for row in by_kind["override"][-1:]:
        total = row.number
        said.append(f"set to {row.number:g}{row.because}")
    return (None if total is None else round(total, 2)), said


def days_late(
    result: Result, deadlines: list[Adjustment], extensions: list[Adjustment]
) -> tuple[int, str]:
    """How many days have begun since a submission was due, and a sentence if it is late or was
    given more time. A row for the student counts before one for everybody."""
    deadline = max(deadlines, key=lambda row: row.student != EVERY, default=None)
    more = max(extensions, key=lambda row: row.student != EVERY, default=None)
    due = deadline.time if deadline else None
    if more:
        due = more.time or (due + timedelta(days=more.number) if due else None)
    given = f"given until {due:%Y-%m-%d %H:%M}{more.because}" if more and due else ""
    came = time_of(result.when)
    if came and due:
        days = max(math.ceil((came - due) / timedelta(days=1)), 0)
        late = f"{days} days late" if days > 1 else "a day late" if days else ""
        return days, ", ".join(filter(None, [given, late]))
    if result.late and more:
        unknown = f"extended by {more.value}{more.because}" if not given else given
        return 0, f"{unknown}; the LMS says late, but not when it came in: not counted"
    if result.late:
        return 1, "late, by the LMS's word"
    return 0, given


def groups(rows: Iterable[Adjustment], assignment: str) -> dict[str, list[str]]:
    """Who is in which group of an assignment."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.what == "group" and row.assignment in (EVERY, assignment):
            found.setdefault(row.value, []).append(row.student)
    return found
