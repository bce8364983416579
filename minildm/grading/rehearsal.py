"""An assignment tried before it is given out: its solution, every misconception and an empty copy
are graded as submissions will be, under the key in use."""

from __future__ import annotations

import json
import queue
import tempfile
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from minildm.grading.assignment import Assignment, NotebookCell, nbgrader_of, text_of
from minildm.grading.bounded_judge import BoundedJudge
from minildm.grading.grade import Result, grade_submission
from minildm.grading.release import student_version


class Misconception(NamedTuple):
    """What students believe: where the solution has `right` they write `wrong`, and it costs
    exactly these parts."""

    belief: str
    right: str
    wrong: str
    costs: list[str]


class Rehearsed(NamedTuple):
    """One notebook to be graded, and which parts it must lose."""

    what: str
    cells: dict[str, str]
    loses: set[str]


def solutions_of(assignment: Assignment) -> dict[str, str]:
    """The solution's cells, by name."""
    cells = {nbgrader_of(cell).get("grade_id"): text_of(cell) for cell in assignment.cells}
    return {name: cells[name] for name in assignment.solutions()}


def misconceptions_of(assignment: Assignment) -> list[Misconception]:
    """Those of the file beside the notebook, `NAME.toml`; [] if there is none. A ValueError says
    what is wrong with it."""
    path = assignment.path.with_suffix(".toml")
    if not path.is_file():
        return []
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        listed = [Misconception(belief, **fields) for belief, fields in found.items()]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected tables with right, wrong and costs: {error}") from None
    parts = {part.name for part in assignment.parts}
    for wrong in listed:
        if strange := set(wrong.costs) - parts:
            raise ValueError(
                f"{path}: {wrong.belief!r} costs {', '.join(strange)}, which is no part"
            )
        times = sum(cell.count(wrong.right) for cell in solutions_of(assignment).values())
        if times != 1:
            raise ValueError(
                f"{path}: {wrong.belief!r}: expected its `right` in the solution once, got {times}"
            )
    return listed


def with_misconception(assignment: Assignment, wrong: Misconception) -> dict[str, str]:
    """The one cell of the solution that it changes."""
    cells = solutions_of(assignment).items()
    return {name: c.replace(wrong.right, wrong.wrong) for name, c in cells if wrong.right in c}


def rehearsals(assignment: Assignment) -> list[Rehearsed]:
    """What is to be graded: the solution, an empty copy, and each misconception."""
    solution = solutions_of(assignment)
    every = {part.name for part in assignment.parts}
    cases = [Rehearsed("the solution", solution, set()), Rehearsed("an empty copy", {}, every)]
    for wrong in misconceptions_of(assignment):
        cells = solution | with_misconception(assignment, wrong)
        cases.append(Rehearsed(f"the misconception {wrong.belief!r}", cells, set(wrong.costs)))
    return cases


def faults(
    assignments: list[Assignment],
    jobs: int = 2,
    namespaces: bool = True,
    done: Callable[[], object] = lambda: None,
) -> list[str]:
    """Grade all that, `jobs` side by side; a sentence for each grade that is not as it must be."""
    slots: queue.Queue[int] = queue.Queue()
    for slot in range(jobs):
        slots.put(slot)
    judge = BoundedJudge()

    def tried(assignment: Assignment, notebook: NotebookCell, case: Rehearsed) -> list[str]:
        slot = slots.get()
        try:
            with tempfile.TemporaryDirectory(prefix="minildm-rehearsal-") as folder:
                path = Path(folder) / f"{assignment.name}.ipynb"
                number = len(notebook["cells"])
                path.write_text(json.dumps(filled(notebook, assignment, case)), encoding="utf-8")
                result = grade_submission(path, assignment, slot, namespaces, judge)
            return faults_of(assignment, case, result, number)
        finally:
            slots.put(slot)
            done()

    with judge, ThreadPoolExecutor(jobs) as pool:
        running = []
        for assignment in assignments:
            released = json.loads(json.dumps(student_version(assignment)))
            for case in rehearsals(assignment):
                running.append(pool.submit(tried, assignment, released, case))
        try:
            return [fault for each in running for fault in each.result()]
        finally:  # if it is interrupted: what is not done is not wanted
            judge.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def filled(notebook: NotebookCell, assignment: Assignment, case: Rehearsed) -> NotebookCell:
    """The released notebook with these cells; with the solution's, what students see runs, too."""
    cells = []
    for cell in notebook["cells"]:
        source = case.cells.get(nbgrader_of(cell).get("grade_id", ""), text_of(cell))
        cells.append(cell | {"source": source})
    if not case.loses:
        for name, source in assignment.tests().items():  # under a comment, lest they be left out
            text = f"# what students see of {name}\n{source}"
            cells.append({"cell_type": "code", "metadata": {}, "source": text})
    return notebook | {"cells": cells}


def faults_of(assignment: Assignment, case: Rehearsed, result: Result, released: int) -> list[str]:
    """What is wrong with a grade; cells after `released` are the tests that students see."""
    if result.score is None:
        return [f"{assignment.name}: {case.what} is not graded: {'; '.join(result.notes)}"]
    found = []
    for mark in result.marks:
        lost = mark.points < mark.out_of
        if lost and mark.part not in case.loses:
            advice = "mend its hidden test, or take another key"
            if mark.message.startswith("the answer cannot be read"):
                advice = "its judge failed by itself: mend it"
            found.append(f"{case.what} loses {mark.part} ({mark.message}): {advice}")
        elif not lost and mark.part in case.loses:
            found.append(
                f"{case.what} keeps {mark.part}: let its hidden test ask for more, or take another "
                "key"
            )
    if not case.loses:
        seen = [f"cell {released + i}:" for i in range(1, len(assignment.tests()) + 1)]
        for note in result.notes:
            shown = [
                name
                for name, cell in zip(assignment.tests(), seen, strict=True)
                if note.startswith(cell)
            ]
            text = note.partition(": ")[2]
            if shown:
                found.append(
                    f"the solution fails what students see of {shown[0]} ({text}): mend that"
                )
            else:
                found.append(f"the solution is noted: {note}")
    return [f"{assignment.name}: {fault}" for fault in found]
