"""Who is who: a submission's name and a roster's row, whatever systems have made of the name."""

from __future__ import annotations

import re
import unicodedata

from minildm.grading.assignment import Assignment
from minildm.grading.classroom import Results
from minildm.grading.grade import Result
from minildm.grading.lms import MOODLE

Row = dict[str, str]  # of a table, by column


def people_like(student: str, roster: list[Row]) -> list[Row]:
    """The roster's rows that a submission may be of: it names the folder, or what nbgrader, Moodle
    or Canvas made its name of.

    As it is written counts first, then whatever the capitals and spaces, then without accents; more
    rows than one are a question.
    """
    ways = [("student", student), ("id", student), ("login", student), ("email", student)]
    if moodle := MOODLE.fullmatch(student):
        ways.append(("name", moodle["name"]))
    if number := canvas_number(student):
        ways.append(("canvas_id", number))
    for form in (exactly, without_case, without_accents):
        fitting: list[Row] = []
        for column, value in ways:
            rows = [r for r in roster if r.get(column) and form(r[column]) == form(value)]
            if len(rows) == 1:
                return rows
            fitting += [row for row in rows if row not in fitting]
        if fitting:
            return fitting
    return []


def exactly(name: str) -> str:
    """A name with its accents in one character each."""
    return unicodedata.normalize("NFC", name)


def without_case(name: str) -> str:
    """A name whatever its capitals, spaces and widths of characters."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def without_accents(name: str) -> str:
    """A name in plain letters, as some systems write it."""
    letters = unicodedata.normalize("NFKD", without_case(name))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def canvas_number(student: str) -> str:
    """Canvas's number at the end of a name, "" if there is none."""
    found = re.search(r"_(\d+)$", student)
    return found[1] if found else ""


def with_roster(
    results: Results, assignments: dict[str, Assignment], roster: list[Row]
) -> tuple[Results, dict[str, Row], list[str]]:
    """The results with a row for everybody of the roster; who is who, student -> row of the roster;
    and what is to be asked, a sentence for each submission that several people may have made."""
    like = {student: people_like(student, roster) for student in sorted({s for s, _ in results})}
    people = {student: rows[0] for student, rows in like.items() if len(rows) == 1}
    absent: Results = {}
    asked = []
    for student, rows in like.items():
        if len(rows) > 1:
            names = " or ".join(row["student"] for row in rows)
            asked.append(f"{student} may be {names}: write it into the roster's column student")
    for row in roster:
        folders = [student for student, person in people.items() if person is row]
        unclear = [student for student, rows in like.items() if len(rows) > 1 and row in rows]
        # Moodle's number is of one assignment alone, so its folder's name is no name for another.
        student = next((name for name in folders if not MOODLE.fullmatch(name)), row["student"])
        for name in assignments:
            theirs = [folder for folder in folders if (folder, name) in results]
            if len(theirs) > 1:
                asked.append(
                    f"{' and '.join(theirs)} are both {row['student']}: keep one of {name}"
                )
            if not theirs:
                people[student] = row
                status = "nothing handed in"
                if maybe := [folder for folder in unclear if (folder, name) in results]:
                    status = f"who is who? perhaps {', '.join(maybe)}"
                absent[student, name] = Result(status, None, 0, [], {}, [])
    return absent | results, people, asked
