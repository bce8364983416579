"""The gradebook: the teacher's marks join the machine's, and Moodle, Canvas and a spreadsheet get
their tables.

A grade that was not given, or whose written part is not marked as it stands, is left blank for
Moodle and Canvas, and is never a 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from minildm.files import write_text
from minildm.grading.assignment import Assignment, WrittenQuestion
from minildm.grading.classroom import Results, file_name
from minildm.grading.feedback import feedback_page
from minildm.grading.grade import Result
from minildm.grading.lms import MOODLE
from minildm.grading.people import Row, canvas_number, exactly, with_roster
from minildm.grading.tables import Cell, blank, read_table, safe, write_table

WRITTEN = ["student", "assignment", "question", "points", "points_max", "answer", "note"]
AGAIN = "another answer than was marked"  # a note that holds this keeps the points from counting
ANEW = f"{AGAIN}: look at the points, then delete this sentence"


class Answer(NamedTuple):
    """A written answer; `points` are what the teacher gave, `note` is their comment, or says why
    the points do not count yet."""

    question: WrittenQuestion
    text: str
    points: float | None
    note: str

    @property
    def counts(self) -> float | None:
        """Its points, None while it is not marked as it stands."""
        return None if AGAIN in self.note else self.points


class Grade(NamedTuple):
    """A student's grade in one assignment, the machine's part and the teacher's."""

    student: str
    assignment: str
    result: Result
    answers: list[Answer]

    @property
    def unmarked(self) -> int:
        """How many of the written answers still have to be marked."""
        return sum(answer.counts is None for answer in self.answers)

    @property
    def total(self) -> float | None:
        """All points; None where a person has to look first."""
        if self.result.score is None or self.unmarked:
            return None
        return self.result.score + sum(answer.counts or 0 for answer in self.answers)


class Exported(NamedTuple):
    """How many rows were written, how many answers are not marked yet, who has marks in written.csv
    and no row, and what the teacher is asked about who is who."""

    rows: int
    unmarked: int
    strangers: list[str]
    asked: list[str]


def export(
    results: Results, assignments: dict[str, Assignment], out: Path, roster: list[Row]
) -> Exported:
    """Write grades.csv, written.csv, what Moodle and Canvas import, and the feedback.

    written.csv is for the teacher: points filled in there are read at the next run, and never
    dropped.
    """
    marked = read_marks(out, assignments)
    results, people, asked = with_roster(results, assignments, roster)
    grades = merge_marks(results, assignments, marked)
    write_feedback(out, grades, assignments)
    write_grades(out, grades, assignments)
    write_written(out, grades, marked)
    for name, assignment in assignments.items():
        export_moodle(out, assignment, [g for g in grades if g.assignment == name], people)
    export_canvas(out, assignments, grades, people)
    known = {(safe(student), name) for student, name in results}
    strangers = {
        row["student"]
        for row in marked
        if row["points"] and (row["student"], row["assignment"]) not in known
    }
    unmarked = sum(grade.unmarked for grade in grades)
    return Exported(len(grades), unmarked, sorted(strangers), asked)


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
    for number, row in enumerate(read_table(out / "written.csv", WRITTEN[:-1]), 2):
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
    note = given.get("note", "")
    if not given["points"]:
        return Answer(question, text, None, note)
    if letters(given["answer"]) != letters(text) and AGAIN not in note:
        note = f"{ANEW} {note}".strip()
    return Answer(question, text, float(given["points"]), note)


def letters(text: str) -> str:
    """What a spreadsheet leaves of a text: not the spaces, not our first apostrophe."""
    return "".join(exactly(text).split()).lstrip("'")


def write_feedback(out: Path, grades: list[Grade], assignments: dict[str, Assignment]) -> None:
    """A page for each student and assignment, in the assignment's folder `feedback`."""
    for grade in grades:
        if grade.assignment in assignments:
            page = out / grade.assignment / "feedback" / f"{file_name(grade.student)}.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            counted = [answer.counts for answer in grade.answers]
            own = assignments[grade.assignment]
            text = feedback_page(grade.student, own, grade.result, counted)
            write_text(page, text)


def write_grades(out: Path, grades: list[Grade], assignments: dict[str, Assignment]) -> None:
    """grades.csv: a row for each student and assignment, with what every part got and why."""
    rows: list[list[Cell]] = []
    for grade in grades:
        result = grade.result
        own = assignments.get(grade.assignment)
        pending = ", the written part is still to be marked" if grade.unmarked else ""
        parts = [f"{m.part} {m.points:g}/{m.out_of:g}: {m.message}" for m in result.marks]
        row = [grade.student, grade.assignment, blank(result.score), result.out_of]
        row += [blank(grade.total), own.points if own else ""]
        row += ["late" if result.late else "", result.when, result.status + pending]
        rows.append([*row, "; ".join(parts), "; ".join(result.notes)])
    header = ["student", "assignment", "automatic", "automatic_max"]
    header += ["total", "total_max", "late", "handed_in", "status", "parts", "notes"]
    write_table(out / "grades.csv", header, rows, "utf-8-sig")


def write_written(out: Path, grades: list[Grade], marked: list[Row]) -> None:
    """written.csv: a row for each written answer, and what the teacher has added to others; columns
    of the teacher's own stay."""
    own = list(dict.fromkeys(column for row in marked for column in row if column not in WRITTEN))
    typed = {tuple(row[column] for column in WRITTEN[:3]): row for row in marked}
    rows: list[list[Cell]] = []
    for grade in grades:
        for question, text, points, note in grade.answers:
            row = [grade.student, grade.assignment, question.name]
            theirs = typed.pop((safe(grade.student), grade.assignment, question.name), {})
            rows.append([*row, blank(points), question.points, text, note])
            rows[-1] += [number_or_text(theirs.get(column, "")) for column in own]
    for row in typed.values():
        if any(row.get(column) for column in ("points", "note", *own)):
            rows.append([number_or_text(row.get(column, "")) for column in [*WRITTEN, *own]])
    write_table(out / "written.csv", [*WRITTEN, *own], rows, "utf-8-sig")


def number_or_text(cell: str) -> Cell:
    """A cell as it was typed: a number with a sign is no formula."""
    try:
        number = float(cell) if cell[:1] in ("-", "+") else None
    except ValueError:
        return cell
    return cell if number is None else int(number) if number.is_integer() else number


def export_moodle(
    out: Path, assignment: Assignment, grades: list[Grade], people: dict[str, Row]
) -> None:
    """Moodle's grading worksheet: assignment → Upload grading worksheet.

    Moodle finds a row's student by the identifier alone, and refuses a file without one of the
    columns Identifier, Grade, and Last modified (grade). A row without a grade says nothing, lest
    it make one.
    """
    rows: list[list[Cell]] = []
    for grade in grades:
        match = MOODLE.fullmatch(grade.student)
        person = people.get(grade.student, {})
        identifier = f"Participant {match['participant']}" if match else ""
        full_name = person.get("name") or (match["name"] if match else grade.student)
        feedback = "" if grade.total is None else f"See {file_name(grade.student)}.html"
        row = [identifier, full_name, person.get("id", ""), person.get("email", "")]
        rows.append([*row, blank(grade.total), assignment.points, "-", feedback])
    header = ["Identifier", "Full name", "ID number", "Email address"]
    header += ["Grade", "Maximum Grade", "Last modified (grade)", "Feedback comments"]
    write_table(out / f"moodle-{assignment.name}.csv", header, rows)


def export_canvas(
    out: Path, assignments: dict[str, Assignment], grades: list[Grade], people: dict[str, Row]
) -> None:
    """Canvas's gradebook: Grades → Import. The second line holds the points possible."""
    totals = {(grade.student, grade.assignment): grade.total for grade in grades}
    possible = [assignment.points for assignment in assignments.values()]
    rows: list[list[Cell]] = [["    Points Possible", "", "", "", "", *possible]]
    for student in sorted({grade.student for grade in grades}):
        person = people.get(student, {})
        identity = person.get("canvas_id") or canvas_number(student)
        row = [person.get("name") or student, identity]
        row += [person.get(column, "") for column in ("id", "login", "section")]
        rows.append([*row, *(blank(totals.get((student, name))) for name in assignments)])
    header = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    header += [assignment.title for assignment in assignments.values()]
    write_table(out / "canvas.csv", header, rows)
