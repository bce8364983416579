"""Grading one submission: run its cells in a bounded process, ask, judge the answers here."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from minildm.grading.assignment import Assignment, Part
from minildm.grading.bounded_judge import BoundedJudge
from minildm.grading.judging import Mark
from minildm.grading.sandbox.session import PATIENCE, Died, Session
from minildm.grading.sandbox.wire import encode, plain
from minildm.grading.submission import Submission, Unreadable, opened, prepare, read_notebook

# A step that ends the process is left out, and the others run again: so often at most.
MOST_STARTS = 4
EMPTY = "NotImplementedError"
LOOKS = "what the cells that only show something define"
LONGEST_TO_LOOK_UP = 2**19  # characters of cells in which their names are looked for


class Result(NamedTuple):
    """A submission's grade; `score` is None where a person has to look first, and `notes` say what
    happened. `file` is what the LMS calls it, `when` it came in on the LMS's clock."""

    status: str
    score: float | None
    out_of: float
    marks: list[Mark]
    written: dict[str, str]
    notes: list[str]
    file: str = ""
    when: str = ""
    late: bool = False


def not_graded(notes: list[str], out_of: float = 0) -> Result:
    """The result of a submission that a person has to look at; `notes` say why."""
    return Result("not graded: look at it", None, out_of, [], {}, notes)


def with_notes(result: Result, notes: list[str]) -> Result:
    """A result with these notes before its own; a plain "graded" becomes "graded, with notes"."""
    status = "graded, with notes" if notes and result.status == "graded" else result.status
    return result._replace(status=status, notes=notes + result.notes)


def digest(path: Path, assignment: Assignment) -> str:
    """Changes when the submission, the assignment, its key or its limits do."""
    try:
        with opened(path) as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except Unreadable as error:
        content = str(error)
    return hashlib.sha256((assignment.digest + content).encode()).hexdigest()


def grade_submission(
    path: Path,
    assignment: Assignment,
    slot: int = 0,
    namespaces: bool = True,
    judge: BoundedJudge | None = None,
) -> Result:
    """The grade of one submitted file. `judge`: who judges others, too; without one, it has its
    own. `Stopped` as soon as `judge.stop` is set."""
    if judge is None:
        with BoundedJudge() as own:
            return grade_submission(path, assignment, slot, namespaces, own)
    automatic = sum(part.points for part in assignment.parts)
    try:
        submission = prepare(read_notebook(path), assignment)
    except Unreadable as error:
        return not_graded([plain(str(error))], automatic)
    errors, replies, notes = run(submission, assignment, slot, namespaces, judge.stop)
    marks = [judge.mark(assignment, part, replies[part.name]) for part in assignment.parts]
    score = sum(m.points for m in marks)
    failed = [f"{name}: {error}" for name, error in errors.items() if not error.startswith(EMPTY)]
    notes = submission.notes + notes + failed[:5]
    if len(failed) > 5:
        notes.append(f"and {len(failed) - 5} more")
    if all(mark.message.startswith(EMPTY) for mark in marks):
        notes.append("nothing filled in: the notebook is as it was released")
    written = {name: plain(text) for name, text in submission.written.items()}
    marks = [m._replace(message=plain(m.message)) for m in marks]
    result = Result("graded", score, automatic, marks, written, [])
    return with_notes(result, [plain(note) for note in notes])


def run(
    submission: Submission,
    assignment: Assignment,
    slot: int,
    namespaces: bool,
    stop: threading.Event,
) -> tuple[dict[str, str], dict[str, Any], list[str]]:
    """Errors by cell, replies by part, and what had to be ended.

    A step that kills the process costs itself only: the process is started again without it. On the
    clock, all cells together have PATIENCE times the submission's seconds, and the questions as
    much again.
    """
    patience = PATIENCE * assignment.limits.seconds
    until = time.monotonic() + patience
    errors: dict[str, str] = {}
    replies: dict[str, Any] = {}
    notes: list[str] = []
    left_out: set[int] = set()
    for _ in range(MOST_STARTS):
        try:
            with Session(assignment.limits, slot, namespaces, stop) as session:
                run_cells(session, submission, assignment, until, left_out, errors)
                ask_parts(session, assignment, until + patience, replies)
                return errors, replies, notes
        except Died as death:
            notes.append(str(death))
    for part in assignment.parts:
        unasked = f"not reached: the process had to be started {MOST_STARTS} times"
        replies.setdefault(part.name, {"error": unasked})
    return errors, replies, notes


def run_cells(
    session: Session,
    submission: Submission,
    assignment: Assignment,
    until: float,
    left_out: set[int],
    errors: dict[str, str],
) -> None:
    """Run the cells but those left out, and note their errors. One that ends the process is left
    out from then on."""
    for number, step in enumerate(submission.steps):
        if number in left_out:
            continue
        if time.monotonic() > until:
            errors[step.name] = "not run, nor what follows: the cells took longer than allowed"
            return
        errors.pop(step.name, None)
        try:
            reply = session.request(step.name, assignment.step_seconds, until, cell=step.source)
        except Died as death:
            left_out.add(number)
            raise Died(f"{step.name} was left out: {death}") from None
        if reply["error"]:
            errors[step.name] = str(reply["error"])[:600]
    number = len(submission.steps)  # the last: names of cells that only show something
    looks, cells = assignment.looks(), [step.source for step in submission.steps]
    if looks and number not in left_out and sum(map(len, cells)) < LONGEST_TO_LOOK_UP:
        try:
            session.request(LOOKS, assignment.step_seconds, until, looks=looks, cells=cells)
        except Died as death:
            left_out.add(number)
            raise Died(f"{LOOKS} was left out: {death}") from None


def ask_parts(
    session: Session, assignment: Assignment, until: float, replies: dict[str, Any]
) -> None:
    """Put the questions that have no reply yet. One that ends the process has that for a reply."""
    for part in assignment.parts:
        if part.name in replies:
            continue
        try:
            replies[part.name] = ask(session, part, assignment, until)
        except Died as death:
            replies[part.name] = {"error": f"{death}, at the test of {part.name}"}
            raise


def ask(session: Session, part: Part, assignment: Assignment, until: float) -> dict[str, Any]:
    """Put one part's question."""
    if time.monotonic() > until:
        return {"error": "not reached: the questions before took longer than allowed"}
    return session.request(
        f"the test of {part.name}",
        assignment.step_seconds,
        until,
        ask=part.ask,
        given=encode(part.given),
        constants=assignment.constants,
    )
