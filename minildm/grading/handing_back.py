"""Feedback in the form that Moodle and Canvas take back: a zip for each.

Moodle (assignment → *Upload multiple feedback files in a zip*) cuts a file's name at its first four
underscores: name, participant, plugin. Canvas (assignment → *Upload submissions*) looks for the
numbers of a user and of a file of theirs, and gives what it finds that file's name: a notebook
comes back as a notebook.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from minildm.files import whole
from minildm.grading.assignment import Assignment
from minildm.grading.feedback import feedback_body, feedback_page
from minildm.grading.lms import ANONYMOUS, CANVAS, MOODLE
from minildm.grading.marking import Grade


def hand_back(out: Path, assignment: Assignment, grades: list[Grade]) -> list[Path]:
    """Write `moodle-feedback-NAME.zip` and `canvas-feedback-NAME.zip`, each where its LMS has named
    submissions; the paths of what was written."""
    written = []
    for lms, named in (("moodle", moodles_name), ("canvas", canvas_name)):
        files = {name: grade for grade in grades if (name := named(grade, assignment))}
        path = out / f"{lms}-feedback-{assignment.name}.zip"
        path.unlink(missing_ok=True)
        if not files:
            continue
        with whole(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, grade in files.items():
                page = feedback_page(grade, assignment)
                if lms == "canvas":
                    page = as_notebook(feedback_body(grade, assignment))
                zipped.writestr(name, page)
        written.append(path)
    return written


def moodles_name(grade: Grade, assignment: Assignment) -> str:
    """What Moodle is to find a participant's page by; "" if the submission is not from there."""
    found = MOODLE.fullmatch(grade.student)
    if not found:
        return ""
    person = found["name"].replace("_", " ")
    file = f"{assignment.name}-feedback.html"
    return f"{person}_{found['participant']}_assignsubmission_file_{file}"


def canvas_name(grade: Grade, assignment: Assignment) -> str:
    """The name that Canvas has given to the file, "" if it has given none. Of a group, who handed
    it in: Canvas shows it to all."""
    file = grade.result.file
    if grade.of or not file.lower().endswith(".ipynb"):
        return ""
    found = ANONYMOUS.fullmatch(file) or CANVAS.fullmatch(file)
    return file if found and found["file"] else ""


def as_notebook(body: str) -> str:
    """A page as a notebook of one cell."""
    cell = {"cell_type": "markdown", "id": "feedback", "metadata": {}, "source": body}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]})
