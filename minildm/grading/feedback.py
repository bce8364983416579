"""What a student gets back: one HTML page, without a script, in which all that the submission said
is plain text."""

from __future__ import annotations

from html import escape

from minildm.grading.assignment import Assignment
from minildm.grading.grade import Result

STYLE = """
body {
  font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: #222;
}
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .4rem .6rem; vertical-align: top }
tr { border-bottom: 1px solid #ccc }
.right { color: #1b5e20 }
.wrong { color: #8e1b1b }
pre { white-space: pre-wrap }
"""


def feedback_page(
    student: str, assignment: Assignment, result: Result, marked: list[float | None]
) -> str:
    """The page: each part with its points and what was wrong, the written answers with their marks,
    the notes."""
    rows = []
    for mark in result.marks:
        kind = "right" if mark.points else "wrong"
        points = f"{mark.points:g} of {mark.out_of:g}"
        message = f'<span class="{kind}">{escape(mark.message)}</span>'
        rows.append([escape(mark.title), points, message])
    for question, points in zip(assignment.written, marked, strict=False):
        shown = "not marked yet" if points is None else f"{points:g} of {question.points:g}"
        answer = escape(result.written.get(question.name) or "nothing was handed in")
        rows.append([escape(question.title), shown, f"<pre>{answer}</pre>"])
    table = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    score = ""
    if result.marks:
        score = f"{result.score:g} of {result.out_of:g} points in the parts that the machine marks"
    notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<title>{escape(assignment.title)}</title><style>{STYLE}</style></head>
<body><h1>{escape(assignment.title)}</h1>
<p>{escape(student)}: {escape(result.status)}. {score}</p>
<table><tr><th>Part</th><th>Points</th><th>What happened</th></tr>
{table}</table>
{f"<h2>Notes</h2><ul>{notes}</ul>" if notes else ""}
</body></html>
"""
