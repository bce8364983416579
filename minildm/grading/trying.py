"""A student's own notebook before it is handed in: its cells and the tests that it shows, run under
the bounds that it will be graded under. Nothing hidden is needed for it, and nothing is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from minildm.grading.assignment import NotebookCell, nbgrader_of, text_of
from minildm.grading.grade import EMPTY
from minildm.grading.sandbox.session import Died, Limits, Session
from minildm.grading.sandbox.wire import plain
from minildm.grading.submission import UNANSWERED, Unreadable, read_notebook, release_of

STEP_SECONDS = 60
DIED = "not run: "
NO_TESTS = "there are no tests in it, as a notebook of the course has"


class Tried(NamedTuple):
    """One part: its heading, its points, and what its visible tests say; "" if they pass."""

    title: str
    points: float
    message: str


def try_notebook(path: Path, namespaces: bool = True) -> tuple[list[Tried], list[str]]:
    """Run a notebook from its first cell to its last: what each part's visible tests say, and what
    else went wrong. `Unreadable` if it is no notebook of the course."""
    notebook = read_notebook(path)
    if not any(is_test(cell) for cell in notebook["cells"]):
        raise Unreadable(NO_TESTS)
    limits, seconds = bounds_of(notebook)
    tried: list[Tried] = []
    notes: list[str] = []
    title, ended = "", ""
    with Session(limits, namespaces=namespaces) as session:
        for number, cell in enumerate(notebook["cells"], 1):
            source, mark = text_of(cell), nbgrader_of(cell)
            if cell["cell_type"] != "code":
                title = heading(source) or title
                if mark.get("grade") and source.strip().rstrip(".").lower() in UNANSWERED:
                    notes.append(f"{title}: not answered yet")
                continue
            error = ended or run_cell(session, f"cell {number}", source, seconds)
            if error.startswith(DIED):
                ended = error
            if is_test(cell):
                tried.append(Tried(plain(title), mark["points"], plain(error)))
            elif error and error != ended:
                notes.append(plain(f"cell {number}: {error}"))
    return tried, notes


def run_cell(session: Session, name: str, source: str, seconds: float) -> str:
    """Run a cell: "" if all went well, else its error, or that the process had to be ended."""
    try:
        error = session.request(name, seconds, math.inf, cell=source)["error"]
    except Died as death:
        return f"{DIED}{death}, in {name}"
    if error and error.startswith(EMPTY):
        return "not filled in yet"
    return str(error)[:600] if error else ""


def is_test(cell: NotebookCell) -> bool:
    """Whether a cell holds tests that give points."""
    mark = nbgrader_of(cell)
    points = mark.get("points")
    return bool(
        cell["cell_type"] == "code" and mark.get("grade") and isinstance(points, (int, float))
    )


def heading(text: str) -> str:
    """The last heading of a text, "" if it has none."""
    titles = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    return titles[-1] if titles else ""


def bounds_of(notebook: NotebookCell) -> tuple[Limits, float]:
    """What the release says that a submission may take, and the seconds of one step."""
    own = release_of(notebook)
    limits: object = own.get("limits")
    try:
        found = Limits(**limits) if isinstance(limits, dict) else Limits()
        return found, float(own.get("step_seconds", STEP_SECONDS))
    except (TypeError, ValueError):
        return Limits(), STEP_SECONDS
