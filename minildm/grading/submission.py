"""A submitted notebook, read without trusting it, and made ready to run: which cells, and what was
done to it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from minildm.grading.assignment import (
    BADGE,
    Assignment,
    NotebookCell,
    fingerprint,
    nbgrader_of,
    text_of,
)
from minildm.grading.notes import (
    notes_on_imports,
    notes_on_names,
    notes_on_unrun,
    what_it_is_instead,
)

LARGEST = 256 * 2**20  # bytes of a file that is looked at; outputs may be large, they are dropped
LARGEST_TEXT = 4 * 2**20  # of what is left of it then
LONGEST_ANSWER = 20_000  # characters of a written answer
# What stands in a written answer's cell before it is filled in.
UNANSWERED = ("your answer here", "")

# Runs in a process of its own with little memory: a file of a stranger is parsed there, and all but
# what grading needs of it (code, texts, nbgrader's marks) stays there: outputs, attachments, the
# state of widgets.
READ = """
import json, sys
most = int(sys.argv[1])
def only(metadata, *names):
    found = metadata if isinstance(metadata, dict) else {}
    return {name: found[name] for name in names if name in found}
notebook = json.load(sys.stdin.buffer)
assert isinstance(notebook, dict), "it is JSON but no notebook"
assert isinstance(notebook.get("cells"), list), "it is JSON but no notebook"
kept = []
for cell in notebook["cells"]:
    assert isinstance(cell, dict), "it is JSON but no notebook"
    lines = cell.get("source")
    lines = [lines] if isinstance(lines, str) else lines
    assert isinstance(lines, list), "a cell has no text"
    assert all(isinstance(line, str) for line in lines), "a cell has no text"
    kept.append({"cell_type": cell.get("cell_type"), "source": "".join(lines)})
    kept[-1]["metadata"] = only(cell.get("metadata"), "nbgrader")
metadata = only(notebook.get("metadata"), "kernelspec", "language_info", "minildm")
text = json.dumps({"metadata": metadata, "cells": kept})
assert len(text) <= most, f"its cells hold {len(text) >> 20} MB of text, more than {most >> 20}"
sys.stdout.write(text)
"""


class Unreadable(Exception):
    """A submission that cannot be graded as it is: why."""


class Step(NamedTuple):
    """A cell to be run."""

    name: str
    source: str


class Submission(NamedTuple):
    """What will be run, what was written by hand, and what the teacher should know."""

    steps: list[Step]
    written: dict[str, str]
    notes: list[str]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """A submitted file, open: a plain one of a bearable size. Unreadable says what it is
    instead."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Unreadable(f"it cannot be opened, or is a link: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise Unreadable("it is not a file")
        if info.st_size > LARGEST:
            raise Unreadable(f"it has {info.st_size >> 20} MB, more than {LARGEST >> 20}")
        yield file


def read_notebook(path: Path) -> NotebookCell:
    """A submitted file as a notebook without outputs; Unreadable says why not."""
    with opened(path) as file:
        if file.read(1) == b"\x80":
            raise Unreadable("it is a pickle, not a notebook; pickles are never opened")
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", READ, str(LARGEST_TEXT)],
                stdin=file.fileno(),
                capture_output=True,
                timeout=120,
                preexec_fn=_limit_reader,
                start_new_session=True,  # Ctrl-C is the grader's to answer
            )
        except subprocess.TimeoutExpired as error:
            raise Unreadable("it takes too long to read") from error
    if done.returncode:
        complaints = done.stderr.decode(errors="replace").strip().splitlines()
        reason = complaints[-1] if complaints else "it needs too much memory"
        reason = reason.removeprefix("AssertionError: ")[:200]
        raise Unreadable(f"it is no readable notebook ({reason})")
    return json.loads(done.stdout)


def _limit_reader() -> None:
    for name in ("RLIMIT_AS", "RLIMIT_DATA"):
        try:
            resource.setrlimit(getattr(resource, name), (3 << 30, 3 << 30))
        except (AttributeError, ValueError, OSError):
            pass


def release_of(notebook: NotebookCell) -> NotebookCell:
    """What the release has written into the notebook: which assignment, and the course key's
    fingerprint."""
    own = notebook["metadata"].get("minildm")
    return own if isinstance(own, dict) else {}


def language_of(notebook: NotebookCell) -> str:
    """The language that the notebook says it is in; "python" if it says nothing."""
    metadata = notebook["metadata"]
    for place, field in (("kernelspec", "language"), ("language_info", "name")):
        if isinstance(metadata.get(place), dict) and isinstance(metadata[place].get(field), str):
            return metadata[place][field].lower()
    return "python"


def prepare(notebook: NotebookCell, assignment: Assignment) -> Submission:
    """The submission's cells in their order, the course's own cells restored; tests are not run,
    they are asked.

    What a submission is graded by is what it defines, so a cell that lost its name, was split, or
    stands twice is run like any other. A note says so.
    """
    if not language_of(notebook).startswith("python") and language_of(notebook) != "ipython":
        raise Unreadable(f"its kernel is {language_of(notebook)[:40]}, not Python")
    said = release_of(notebook).get("assignment")
    if other := what_it_is_instead(notebook["cells"], assignment, said):
        raise Unreadable(other)
    locked = assignment.locked()
    tests = assignment.tests()
    looks = assignment.looks()
    shown = set(tests.values())
    steps: list[Step] = []
    names: list[str] = []
    written, notes = written_answers(notebook, assignment)
    if release_of(notebook).get("key") not in (None, fingerprint(assignment.key)):
        notes.append("it was released with another course key than it is graded with")
    if said not in (None, assignment.name):
        notes.append(f"it says that it is {str(said)[:60]!r}, handed in as {assignment.name!r}")
    for number, cell in enumerate(notebook["cells"], 1):
        name = nbgrader_of(cell).get("grade_id")
        if not isinstance(name, str):
            name = None
        if name:
            names.append(name)
        source = text_of(cell)
        bare = source.strip()
        if cell["cell_type"] != "code" or not bare:
            continue
        if name in tests or bare in shown:
            if name in tests and bare != tests[name]:
                notes.append(f"the tests of {name} were edited; the course's own were used")
        elif name in locked:
            if bare != locked[name].strip():
                notes.append(f"the cell {name} was edited; the course's own was run")
            steps.append(Step(f"cell {number}", locked.pop(name)))
        elif bare not in looks:
            own = [key for key, text in locked.items() if text.strip() == bare]
            if own:  # one of the course's cells, which has lost its name
                del locked[own[0]]
            steps.append(Step(f"cell {number}", source))
    if locked:
        notes.append(f"without the course's cell {', '.join(locked)}, which was run first")
        steps = [Step(f"cell {name}", source) for name, source in locked.items()] + steps
    notes += notes_on_names(names, assignment) + notes_on_unrun(notebook["cells"], assignment)
    notes += notes_on_imports([step.source for step in steps], assignment)
    return Submission(steps, written, notes)


def written_answers(
    notebook: NotebookCell, assignment: Assignment
) -> tuple[dict[str, str], list[str]]:
    """The answers that a person marks, by question, and notes on those that do not stand in their
    own cell alone.

    What a student writes into further cells below a question belongs to the answer; where the
    question itself is gone, or no cell has its name any more, no text of the student's is left out.
    """
    course = assignment.texts()
    questions = {question.name: question for question in assignment.written}
    named: dict[str, str] = {}
    own: list[tuple[str, str]] = []  # below which text of the course, what
    above = ""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            continue
        name = nbgrader_of(cell).get("grade_id")
        text = text_of(cell).strip()
        answer = "" if text.rstrip(".").lower() in UNANSWERED else text
        if text in course:
            above = text
        elif isinstance(name, str) and name in questions:
            named[name] = answer
        elif answer and BADGE not in answer:
            own.append((above, answer))
    written: dict[str, str] = {}
    notes: list[str] = []
    for name, question in questions.items():
        others = [text for place, text in own if place == question.below]
        if not others and name not in named:
            others = [text for _, text in own]
        answers = [named.get(name, ""), *others]
        written[name] = "\n\n".join(filter(None, answers))[:LONGEST_ANSWER]
        if others:
            notes.append(
                f"the answer to {name} was gathered from other cells: compare it with the notebook"
            )
    return written, notes
