"""The teacher's marks of the written answers: read from written.csv, refused with row and column
where they cannot be, and joined to the machine's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from minildm.grading.adjustments import Adjustment, adjusted, groups
from minildm.grading.assignment import Assignment, WrittenQuestion
from minildm.grading.classroom import Results
from minildm.grading.grade import Result
from minildm.grading.people import Row, exactly
from minildm.grading.tables import read_table, safe

WRITTEN = ["student", "assignment", "question", "points", "points_max", "answer"]
WRITTEN += ["note", "comment"]
AGAIN = "another answer than was marked"  # a note that holds this keeps the points from counting
ANEW = f"{AGAIN}: look at the points, then delete this sentence"


class Answer(NamedTuple):
    """A written answer; `points` are what the teacher gave, `note` is for the teacher, or says why
    the points do not count yet, `comment` is for the student."""

    question: WrittenQuestion
    text: str
    points: float | None
    note: str
    comment: str = ""

    @property
    def counts(self) -> float | None:
        """Its points, None while it is not marked as it stands."""
        return None if AGAIN in self.note else self.points


class Grade(NamedTuple):
    """A student's grade in one assignment, the machine's part and the teacher's, and what
    adjustments.csv says of it. `of`: who of the student's group has handed it in."""

    student: str
    assignment: str
    result: Result
    answers: list[Answer]
    changes: tuple[Adjustment, ...] = ()
    of: str = ""

    @property
    def unmarked(self) -> int:
        """How many of the written answers still have to be marked."""
        return 0 if self.of else sum(answer.counts is None for answer in self.answers)

    @property
    def earned(self) -> float | None:
        """All points before any change; None where a person has to look first."""
        counts = [answer.counts for answer in self.answers]
        if self.result.score is None or None in counts:
            return None
        return self.result.score + sum(count or 0 for count in counts)

    @property
    def total(self) -> float | None:
        """The points that count; None where a person has to look first."""
        return adjusted(self.earned, self.result, self.changes)[0]

    @property
    def said(self) -> list[str]:
        """A sentence for each change."""
        shared = [f"handed in by {self.of} for the group"] if self.of else []
        return shared + adjusted(self.earned, self.result, self.changes)[1]

    @property
    def comments(self) -> list[str]:
        """What the teacher says to the student about the whole."""
        return [row.value for row in self.changes if row.what == "comment"]


def read_marks(out: Path, assignments: dict[str, Assignment]) -> list[Row]:
    """The rows of written.csv, with whatever the teacher has added to them. A ValueError names the
    row and the column of what is no number of points that the question can have."""
    most = {
        (name, question.name): question.points
        for name, assignment in assignments.items()
        for question in assignment.written
    }
    found: list[Row] = []
    marked: dict[tuple[str, ...], tuple[int, float]] = {}
    for number, row in enumerate(read_table(out / "written.csv", WRITTEN[:6]), 2):
        where = f"written.csv, row {number}"
        if None in row:
            raise ValueError(f"{where}: expected a heading above every column, got a cell without")
        row = {column: row[column] or "" for column in row}
        found.append(row | {"points": row["points"].strip().replace(",", ".")})
        if not found[-1]["points"]:
            continue
        limit = most.get((row["assignment"], row["question"]))
        try:
            limit = float(row["points_max"].replace(",", ".")) if limit is None else limit
            points = float(found[-1]["points"])
            if not 0 <= points <= limit:  # nor nan
                raise ValueError
        except ValueError:
            of = row["points_max"] if limit is None else f"{limit:g}"
            raise ValueError(
                f"{where}, column points: expected points from 0 to {of} for {row['student']}, "
                f"got {row['points']!r}"
            ) from None
        key = tuple(row[column] for column in WRITTEN[:3])
        before, other = marked.setdefault(key, (number, points))
        if other != points:
            raise ValueError(f"{where}, column points: {points:g}, but row {before} says {other:g}")
    return found


def merge_marks(
    results: Results, assignments: dict[str, Assignment], marked: list[Row]
) -> list[Grade]:
    """The results, sorted, with the points that the teacher has given to the written answers."""
    by_question = {tuple(row[column] for column in WRITTEN[:3]): row for row in marked}
    grades = []
    for (student, name), result in sorted(results.items()):
        answers = []
        if name in assignments and result.score is not None:
            for question in assignments[name].written:
                given = by_question.get((safe(student), name, question.name))
                answers.append(
                    marked_answer(question, result.written.get(question.name, ""), given)
                )
        grades.append(Grade(student, name, result, answers))
    return grades


def marked_answer(question: WrittenQuestion, text: str, given: Row | None) -> Answer:
    """A student's text with its mark; the sentence that it is another text than was marked stays
    until the teacher deletes it, a comment stays in any case."""
    if given is None:
        return Answer(question, text, None, "")
    note, comment = given.get("note", ""), given.get("comment", "")
    if not given["points"]:
        return Answer(question, text, None, note, comment)
    if letters(given["answer"]) != letters(text) and AGAIN not in note:
        note = f"{ANEW} {note}".strip()
    return Answer(question, text, float(given["points"]), note, comment)


def letters(text: str) -> str:
    """What a spreadsheet leaves of a text: not the spaces, not our first apostrophe."""
    return "".join(exactly(text).split()).lstrip("'")


def with_adjustments(
    grades: list[Grade], adjustments: Iterable[Adjustment]
) -> tuple[list[Grade], list[str]]:
    """The grades with what adjustments.csv changes, sorted, and what is to be asked: who shares a
    group gets what one of them has handed in."""
    rows = tuple(adjustments)
    found = {(grade.student, grade.assignment): grade for grade in grades}
    asked = []
    for name in {grade.assignment for grade in grades}:
        names = {exactly(student): student for student, other in found if other == name}
        for team, members in groups(rows, name).items():
            theirs = [names.get(exactly(member), member) for member in members]
            own = [found[s, name] for s in theirs if (s, name) in found]
            handed = [grade for grade in own if grade.result.score is not None]
            if len(handed) > 1:
                who = " and ".join(grade.student for grade in handed)
                asked.append(f"{who} of the group {team} have each handed in {name}: keep one")
            if len(handed) == 1:
                of = handed[0].student
                shared = {
                    (s, name): handed[0]._replace(student=s, of=of) for s in theirs if s != of
                }
                found.update(shared)
    return [
        grade._replace(changes=tuple(row for row in rows if row.concerns(student, name)))
        for (student, name), grade in sorted(found.items())
    ], asked
