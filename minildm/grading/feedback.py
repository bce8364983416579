"""What a student gets back: one HTML page, without a script, in which all that the submission said
is plain text."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from minildm.grading.assignment import Assignment
from minildm.grading.grade import EMPTY
from minildm.grading.judging import Mark
from minildm.grading.lms import MOODLE
from minildm.grading.marking import Grade

FEW = 6  # numbers that are shown one by one
STYLE = """
body {
  font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: #222;
}
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .4rem .6rem; vertical-align: top }
td:nth-child(2) { white-space: nowrap }
td:last-child { overflow-wrap: anywhere }
@media (max-width: 36rem) {
  th { display: none }
  td { display: block; padding: .1rem 0 }
  tr { display: block; padding: .5rem 0 }
}
tr { border-bottom: 1px solid #ccc }
.total { font-size: 1.4rem }
.right { color: #1b5e20 }
.partly { color: #7a4f01 }
.wrong { color: #8e1b1b }
.case { color: #555; font-size: .9rem }
.comment { border-left: 3px solid #888; padding-left: .6rem }
pre { white-space: pre-wrap }
"""


def feedback_page(grade: Grade, assignment: Assignment) -> str:
    """The page: the total, each part with its points, what was wrong and with what it was asked,
    the written answers with their marks and comments, what was changed, the notes."""
    title = escape(assignment.title)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{STYLE}</style></head>
<body>
{feedback_body(grade, assignment)}
</body></html>
"""


def feedback_body(grade: Grade, assignment: Assignment) -> str:
    """What stands on the page."""
    given = {part.name: part.given for part in assignment.parts}
    rows = []
    for mark in grade.result.marks:
        points = f"{mark.points:g} of {mark.out_of:g}"
        rows.append([escape(mark.title), points, what_happened(mark, given.get(mark.part))])
    for answer in grade.answers:
        most = answer.question.points
        shown = "not marked yet" if answer.counts is None else f"{answer.counts:g} of {most:g}"
        text = f"<pre>{escape(answer.text or 'nothing was handed in')}</pre>"
        text += f'<p class="comment">{escape(answer.comment)}</p>' if answer.comment else ""
        rows.append([escape(answer.question.title), shown, text])
    table = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    heading = "<tr><th>Part</th><th>Points</th><th>What happened</th></tr>"
    parts = [
        f"<h1>{escape(assignment.title)}</h1>",
        f"<p>{escape(called(grade.student))}: {escape(grade.result.status)}.</p>",
        f'<p class="total">{total_of(grade, assignment)}</p>',
        listed("", grade.said),
        "".join(f'<p class="comment">{escape(text)}</p>' for text in grade.comments),
        f"<table>{heading}\n{table}</table>" if rows else "",
        listed("Notes", grade.result.notes),
    ]
    return "\n".join(filter(None, parts))


def called(student: str) -> str:
    """A student's name without what Moodle puts behind it."""
    moodle = MOODLE.fullmatch(student)
    return moodle["name"] if moodle else student


def total_of(grade: Grade, assignment: Assignment) -> str:
    """The total, or what there is of it yet."""
    if grade.total is not None:
        return f"<strong>{grade.total:g}</strong> of {assignment.points:g} points"
    if grade.result.score is None:
        return "not graded yet"
    return (
        f"<strong>{grade.result.score:g}</strong> of {grade.result.out_of:g} points in the parts "
        "that the machine marks; the written part is still to be marked"
    )


def listed(title: str, sentences: list[str]) -> str:
    """A list under a heading; nothing if it is empty."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    heading = f"<h2>{title}</h2>" if title else ""
    return f"{heading}<ul>{items}</ul>" if sentences else ""


def what_happened(mark: Mark, given: Mapping[str, object] | None) -> str:
    """The mark's message; where points were lost, what the test had put in."""
    kind = "right" if mark.points >= mark.out_of else "partly" if mark.points else "wrong"
    text = f'<span class="{kind}">{escape(mark.message)}</span>'
    if kind != "right" and given and not mark.message.startswith(EMPTY):
        case = "; ".join(f"{name}: {shown(value)}" for name, value in given.items())
        text += f'<br><span class="case">You were here when it failed: {escape(case)}</span>'
    return text


def shown(value: object) -> str:
    """A question's value as a student can make it again: few numbers as they are, of many the shape
    and the range."""
    if isinstance(value, str):
        return f"a text of {len(value)} characters" if len(value) > 60 else repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {shown(each)}" for name, each in value.items()) + "}"
    if isinstance(value, (list, tuple)) and len(value) <= FEW:
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, (list, tuple)) and not all(isinstance(v, (int, float)) for v in value):
        return f"{len(value)} values"
    try:
        numbers = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):
        return type(value).__name__
    if numbers.dtype.kind not in "biuf":
        return str(value)[:60]
    if numbers.ndim == 0:
        return f"{numbers.item():.6g}" if numbers.dtype.kind == "f" else str(numbers.item())
    kind = f"shape {tuple(numbers.shape)}, {str(getattr(value, 'dtype', numbers.dtype))}"
    if numbers.size <= FEW:
        return f"{np.array2string(numbers, precision=4, separator=', ')} ({kind})".replace("\n", "")
    return f"numbers from {numbers.min():.3g} to {numbers.max():.3g} ({kind})"
