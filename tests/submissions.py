"""A tiny assignment of two parts (3 and 5 points) and a written question (2), and notebooks handed
in for it."""

import copy
import json
from pathlib import Path

from minildm.grading import Mark, Result

ADA, BO = "Ada Lovelace_1001_assignsubmission_file", "Bo Diddley_1002_assignsubmission_file"

HIDDEN = """
### BEGIN HIDDEN TESTS
import numpy as np

from minildm.grading import check, same


def given(rng):
    return {{"x": rng.normal(size=5)}}


def ask(student, given):
    return {{"y": student.{name}(given["x"])}}


def judge(given, got):
    same(got["y"], {answer}, "{name}")


check(given, ask, judge, globals())
### END HIDDEN TESTS
"""


def cell(source: str, name: str | None = None, kind: str = "code", **mark) -> dict:
    """A cell in nbgrader's format; with a name it is one of the course's."""
    full = {
        "schema_version": 3,
        "grade": False,
        "solution": False,
        "locked": False,
        "task": False,
    } | mark
    metadata = {"nbgrader": full | {"grade_id": name}} if name else {}
    made = {
        "cell_type": kind,
        "id": f"id-{abs(hash((source, name))) % 10**8}",
        "metadata": metadata,
        "source": source,
    }
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def notebook(cells: list[dict], **metadata) -> dict:
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": kernel} | metadata,
        "cells": cells,
    }


def solution(body: str) -> str:
    return f"    ### BEGIN SOLUTION\n    {body}\n    ### END SOLUTION"


def source_notebook() -> dict:
    """The teacher's version, solutions in it."""
    locked = {"locked": True}
    own = {"assignment": "tiny", "step_seconds": 4}
    own["limits"] = {"seconds": 60, "memory_mb": 400, "processes": 24, "disk_mb": 8}
    return notebook(
        [
            cell("# Tiny\n\nTwo parts.", kind="markdown"),
            cell(
                "import numpy as np\n\nFACTOR = 2.0  # course: 3.0 | 5.0 | 7.0", "setup", **locked
            ),
            cell("## Scale", kind="markdown"),
            cell(f"def scale(x):\n{solution('return FACTOR * x')}", "scale", solution=True),
            cell(
                "assert scale(np.ones(2)).shape == (2,)"
                + HIDDEN.format(name="scale", answer="FACTOR * given['x']"),
                "test-scale",
                grade=True,
                points=3,
                **locked,
            ),
            cell("## Total", kind="markdown"),
            cell(f"def total(x):\n{solution('return x.sum()')}", "total", solution=True),
            cell(
                "assert total(np.ones(2)) == 2"
                + HIDDEN.format(name="total", answer="given['x'].sum()"),
                "test-total",
                grade=True,
                points=5,
                **locked,
            ),
            cell("## Why?", kind="markdown"),
            cell("Your answer here.", "why", "markdown", grade=True, solution=True, points=2),
        ],
        minildm=own,
    )


def filled_in(released: dict, **bodies: str) -> dict:
    """The released notebook with these cells' sources replaced, by name."""
    made = copy.deepcopy(released)
    for one in made["cells"]:
        name = one["metadata"].get("nbgrader", {}).get("grade_id")
        if name in bodies:
            one["source"] = bodies[name]
    return made


def hand_in(folder: Path, student: str, content: dict | str | bytes) -> Path:
    """Put a submission where nbgrader and Moodle put it."""
    path = folder / student / "tiny.ipynb"
    path.parent.mkdir(parents=True)
    content = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def result(points: float, **changes) -> Result:
    """What the grader has found: the first part right, the second not, the question answered."""
    marks = [
        Mark("test-scale", "Scale", points, 3, "right"),
        Mark("test-total", "Total", 0, 5, "<b>wrong</b>"),
    ]
    return Result("graded", points, 8, marks, {"why": "=1+1, because"}, [])._replace(**changes)
