"""The class at a glance: one HTML page for an assignment, a file that asks for nothing.

A row for each student, a column for each part; how many solved it, what nobody did, and which wrong
answers are the most frequent.
"""

from __future__ import annotations

import re
from collections import Counter
from html import escape
from statistics import median

from minildm.grading.assignment import Assignment
from minildm.grading.feedback import called
from minildm.grading.marking import Grade
from minildm.grading.tables import blank

MOST = 3  # wrong answers that are shown for each part
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #222 }
.wide { overflow-x: auto }
table { border-collapse: collapse }
th, td { padding: .3rem .5rem; text-align: right; border-bottom: 1px solid #ddd }
th { vertical-align: bottom; max-width: 9rem; font-weight: 600 }
th:first-child, td:first-child {
  text-align: left; position: sticky; left: 0; background: #fff;
  min-width: 8rem; max-width: 16rem;
  overflow-wrap: anywhere;
}
.full { background: #d7ead8 } .partly { background: #fbedc8 } .none { background: #f6d5d3 }
.open { color: #666 }
tfoot td { border-top: 2px solid #888; font-weight: 600 }
meter { display: block; width: 100%; min-width: 4rem }
li { margin-bottom: .4rem }
"""


def overview_page(assignment: Assignment, grades: list[Grade]) -> str:
    """The page for one assignment's grades."""
    title = escape(assignment.title)
    body = [
        f"<h1>{title}: the class</h1>",
        f"<p>{summary(assignment, grades)}</p>",
        f'<div class="wide">{table(assignment, grades)}</div>',
        unsolved(assignment, grades),
        frequent(assignment, grades),
    ]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: the class</title><style>{STYLE}</style></head>
<body>
{"".join(filter(None, body))}
</body></html>
"""


def summary(assignment: Assignment, grades: list[Grade]) -> str:
    """How many there are, how many are graded, and the median."""
    totals = [grade.total for grade in grades if grade.total is not None]
    said = [f"{len(grades)} students, {len(totals)} with a grade"]
    if totals:
        said.append(f"median {median(totals):g} of {assignment.points:g} points")
    if open_answers := sum(grade.unmarked for grade in grades):
        said.append(f"{open_answers} written answers to mark")
    if late := sum(grade.result.late for grade in grades):
        said.append(f"{late} late")
    return "; ".join(said) + "."


def table(assignment: Assignment, grades: list[Grade]) -> str:
    """Students by parts; what is behind a cell shows when the pointer rests on it."""
    titles = [part.title for part in [*assignment.parts, *assignment.written]]
    head = "".join(f"<th>{escape(short(title))}</th>" for title in ["Student", *titles, "Total"])
    rows = []
    for grade in grades:
        marks = {mark.part: mark for mark in grade.result.marks}
        cells = [f"<td>{escape(called(grade.student))}</td>"]
        for part in assignment.parts:
            mark = marks.get(part.name)
            points = mark.points if mark else None
            cells.append(cell(points, part.points, mark.message if mark else "not graded"))
        answers = {answer.question.name: answer for answer in grade.answers}
        for question in assignment.written:
            answer = answers.get(question.name)
            points = answer.counts if answer else None
            cells.append(cell(points, question.points, "not marked yet"))
        status = "; ".join([grade.result.status, *grade.said, *grade.result.notes])
        total = blank(grade.total) or "–"
        cells.append(f'<td title="{escape(status)}"><strong>{total}</strong></td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    foot = "".join(f"<td>{rate(solved(part.name, grades))}</td>" for part in assignment.parts)
    empty = "<td></td>" * (len(assignment.written) + 1)
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        f"<tfoot><tr><td>solved</td>{foot}{empty}</tr></tfoot></table>"
    )


def short(title: str) -> str:
    """A heading without the points in it."""
    return re.sub(r" *\([^)]*points?[^)]*\)$", "", title)


def cell(points: float | None, out_of: float, said: str) -> str:
    """One student's points in one part."""
    if points is None:
        return f'<td class="open" title="{escape(said)}">–</td>'
    kind = "full" if points >= out_of else "partly" if points else "none"
    return f'<td class="{kind}" title="{escape(said)}">{points:g}</td>'


def solved(part: str, grades: list[Grade]) -> tuple[int, int]:
    """How many have all points of a part, of how many that were graded."""
    marks = [mark for grade in grades for mark in grade.result.marks if mark.part == part]
    return sum(mark.points >= mark.out_of for mark in marks), len(marks)


def rate(counts: tuple[int, int]) -> str:
    """So many of so many, with a bar."""
    right, of = counts
    if not of:
        return "–"
    return f'{right} of {of}<meter min="0" max="{of}" value="{right}">{right}</meter>'


def unsolved(assignment: Assignment, grades: list[Grade]) -> str:
    """The parts that were graded and that nobody has solved: perhaps it is the test's fault."""
    found = [part for part in assignment.parts if solved(part.name, grades)[0] == 0]
    parts = [escape(part.title) for part in found if solved(part.name, grades)[1]]
    items = "".join(f"<li>{title}</li>" for title in parts)
    return f"<h2>Nobody passed this</h2><ul>{items}</ul>" if parts else ""


def frequent(assignment: Assignment, grades: list[Grade]) -> str:
    """The most frequent messages of each part, whatever the numbers in them, with who got them."""
    parts = []
    for part in assignment.parts:
        counted: Counter[str] = Counter()
        examples: dict[str, str] = {}
        people: dict[str, list[str]] = {}
        for grade in grades:
            for mark in grade.result.marks:
                if mark.part == part.name and mark.points < mark.out_of:
                    kind = re.sub(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", "#", mark.message)
                    counted[kind] += 1
                    examples.setdefault(kind, mark.message)
                    people.setdefault(kind, []).append(called(grade.student))
        items = "".join(
            f"<li>{count} × {escape(examples[kind])}<br>"
            f'<span class="open">{escape(", ".join(people[kind]))}</span></li>'
            for kind, count in counted.most_common(MOST)
        )
        parts += [f"<h3>{escape(short(part.title))}</h3><ul>{items}</ul>"] if items else []
    return f"<h2>The most frequent wrong answers</h2>{''.join(parts)}" if parts else ""
