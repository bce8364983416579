"""The gradebook: the teacher's marks join the machine's, and Moodle, Canvas and a spreadsheet get
their tables.

A grade that was not given, or whose written part is not marked as it stands, is left blank for
Moodle and Canvas, and is never a 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from minildm.files import write_text
from minildm.grading.adjustments import EVERY, FILE, read_adjustments
from minildm.grading.assignment import Assignment
from minildm.grading.classroom import Results, file_name
from minildm.grading.feedback import feedback_page
from minildm.grading.handing_back import hand_back
from minildm.grading.lms import MOODLE
from minildm.grading.marking import WRITTEN, Grade, merge_marks, read_marks, with_adjustments
from minildm.grading.overview import overview_page
from minildm.grading.people import Row, canvas_number, exactly, with_roster
from minildm.grading.tables import Cell, blank, safe, write_table


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
    dropped. adjustments.csv is the teacher's alone.
    """
    marked = read_marks(out, assignments)
    changes = read_adjustments(out, points_of(assignments))
    results, people, asked = with_roster(results, assignments, roster)
    grades, unclear = with_adjustments(merge_marks(results, assignments, marked), changes)
    write_feedback(out, grades, assignments)
    write_grades(out, grades, assignments)
    write_written(out, grades, marked)
    for name, assignment in assignments.items():
        theirs = [grade for grade in grades if grade.assignment == name]
        export_moodle(out, assignment, theirs, people)
        hand_back(out, assignment, theirs)
        write_text(out / f"overview-{name}.html", overview_page(assignment, theirs))
    export_canvas(out, assignments, grades, people)
    known = {(safe(student), name) for student, name in results}
    strangers = {
        row["student"]
        for row in marked
        if row["points"] and (row["student"], row["assignment"]) not in known
    }
    there = {EVERY, *(exactly(grade.student) for grade in grades)}
    nobody = {row.student for row in changes} - there
    unclear += [f"{FILE}: nobody here is called {name}" for name in sorted(nobody)]
    unmarked = sum(grade.unmarked for grade in grades)
    return Exported(len(grades), unmarked, sorted(strangers), asked + unclear)


def points_of(assignments: dict[str, Assignment]) -> dict[str, float]:
    """The points of each assignment, by name."""
    return {name: assignment.points for name, assignment in assignments.items()}


def write_feedback(out: Path, grades: list[Grade], assignments: dict[str, Assignment]) -> None:
    """A page for each student and assignment, in the assignment's folder `feedback`."""
    for grade in grades:
        if grade.assignment in assignments:
            page = out / grade.assignment / "feedback" / f"{file_name(grade.student)}.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            write_text(page, feedback_page(grade, assignments[grade.assignment]))


def write_grades(out: Path, grades: list[Grade], assignments: dict[str, Assignment]) -> None:
    """grades.csv: a row for each student and assignment, with what every part got and why."""
    rows: list[list[Cell]] = []
    for grade in grades:
        result = grade.result
        own = assignments.get(grade.assignment)
        pending = ", the written part is still to be marked" if grade.unmarked else ""
        parts = [f"{m.part} {m.points:g}/{m.out_of:g}: {m.message}" for m in result.marks]
        row = [grade.student, grade.assignment, blank(result.score), result.out_of]
        row += [blank(grade.earned), blank(grade.total), own.points if own else ""]
        row.append("; ".join(grade.said))
        row += ["late" if result.late else "", result.when, result.status + pending]
        rows.append([*row, "; ".join(parts), "; ".join(result.notes)])
    header = ["student", "assignment", "automatic", "automatic_max"]
    header += [
        "earned",
        "total",
        "total_max",
        "adjustments",
        "late",
        "handed_in",
        "status",
        "parts",
        "notes",
    ]
    write_table(out / "grades.csv", header, rows, "utf-8-sig")


def write_written(out: Path, grades: list[Grade], marked: list[Row]) -> None:
    """written.csv: a row for each written answer, and what the teacher has added to others; columns
    of the teacher's own stay."""
    own = list(dict.fromkeys(column for row in marked for column in row if column not in WRITTEN))
    typed = {tuple(row[column] for column in WRITTEN[:3]): row for row in marked}
    rows: list[list[Cell]] = []
    for grade in grades:
        for question, text, points, note, comment in [] if grade.of else grade.answers:
            row = [grade.student, grade.assignment, question.name]
            theirs = typed.pop((safe(grade.student), grade.assignment, question.name), {})
            rows.append([*row, blank(points), question.points, text, note, comment])
            rows[-1] += [number_or_text(theirs.get(column, "")) for column in own]
    for row in typed.values():
        if any(row.get(column) for column in ("points", "note", "comment", *own)):
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
