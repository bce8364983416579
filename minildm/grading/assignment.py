"""An assignment's source notebook: what is run, what is asked, what is judged, and how the course
key varies it.

The source is nbgrader's format. A part is one grade cell; its hidden region defines three
functions:

    given(rng) -> dict      the question, drawn from the course key       (in the grader)
    ask(student, given)     calls what the submission defines             (beside the submission)
    judge(given, got)       asserts on what came back; knows the answers  (in the grader)

Only `ask` ever travels to the submission, as text, and only when all of its cells have run.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minildm.files import read_json
from minildm.grading.sandbox.runner import missing
from minildm.grading.sandbox.session import Limits
from minildm.grading.sandbox.wire import encode

HIDDEN = re.compile(
    r"^### BEGIN HIDDEN TESTS\n(.*?)^### END HIDDEN TESTS", re.MULTILINE | re.DOTALL
)
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
CONSTANT = re.compile(r"^(?P<name>\w+) = (?P<value>.+?)  # course: (?P<choices>.+)$", re.MULTILINE)

NotebookCell = dict[str, Any]  # or a whole notebook, as its file holds it


class Part(NamedTuple):
    """One grade cell: what it is worth, and its hidden test."""

    name: str
    title: str
    points: float
    ask: str
    given: dict[str, Any]
    judge: Callable[[dict, Any], None]


class WrittenQuestion(NamedTuple):
    """A question that a person marks, and the course's text below which its answer stands."""

    name: str
    title: str
    points: float
    below: str


def course_rng(key: str, *names: str) -> np.random.Generator:
    """Random numbers that depend on the course key and these names, and on nothing else."""
    digest = hashlib.sha256("\0".join([key, *names]).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def fingerprint(key: str) -> str:
    """Says which key a notebook was released with, and nothing about it."""
    return hashlib.sha256(f"minildm course key\0{key}".encode()).hexdigest()[:10]


def chosen(constant: re.Match[str], key: str, assignment: str) -> str:
    """The key's choice for a line `NAME = value  # course: a | b | c`."""
    choices = constant["choices"].split(" | ")
    return choices[course_rng(key, assignment, constant["name"]).integers(len(choices))]


def with_constants(source: str, key: str, assignment: str) -> str:
    """A cell with the key's choices in such lines."""
    return CONSTANT.sub(
        lambda constant: f"{constant['name']} = {chosen(constant, key, assignment)}", source
    )


def text_of(cell: NotebookCell) -> str:
    """A cell's source, which files hold as a text or as a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def nbgrader_of(cell: NotebookCell) -> dict[str, Any]:
    """What nbgrader notes about a cell, {} if nothing."""
    metadata = cell.get("metadata")
    found = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def read_source(path: Path) -> NotebookCell:
    """A source notebook; a ValueError says what of it is of another kind."""
    notebook = read_json(path, "a notebook")
    cells, metadata = notebook.get("cells"), notebook.get("metadata")
    if not (isinstance(metadata, dict) and isinstance(cells, list)):
        raise ValueError(f"{path}: expected a notebook, with cells and metadata")
    for number, cell in enumerate(cells, 1):
        parts = cell if isinstance(cell, dict) else {}
        kinds = {"cell_type": str, "metadata": dict, "source": (str, list)}
        if not all(isinstance(parts.get(name), kind) for name, kind in kinds.items()):
            expected = "a cell_type, metadata and a source"
            raise ValueError(f"{path}: expected {expected} of each cell, not so cell {number}")
    own = metadata.get("minildm", {})
    limits = own.get("limits", {}) if isinstance(own, dict) else None
    if not isinstance(limits, dict) or set(limits) - set(Limits._fields):
        expected = f"limits of {', '.join(Limits._fields)} in its metadata's minildm"
        raise ValueError(f"{path}: expected {expected}, got {own!r}")
    for name, number in {"step_seconds": own.get("step_seconds", 60), **limits}.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not number > 0:
            raise ValueError(f"{path}: expected a number above 0 as {name}, got {number!r}")
    return notebook


class Assignment:
    """A source notebook with a course key. `parts` are graded by the machine, `written` by hand.

    A ValueError says what is wrong with the notebook.
    """

    def __init__(self, path: Path, key: str):
        self.path = Path(path)
        self.key = key
        notebook = read_source(self.path)
        own = notebook["metadata"].get("minildm", {})
        self.name = own.get("assignment", self.path.stem)
        self.limits = Limits(**own.get("limits", {}))
        self.step_seconds = own.get("step_seconds", 60)
        self.cells = notebook["cells"]
        self.digest = hashlib.sha256(self.path.read_bytes() + key.encode()).hexdigest()
        first = text_of(self.cells[0]).strip() if self.cells else ""
        if not first:
            raise ValueError(f"{self.path}: expected a first cell that begins with the title")
        self.title = first.splitlines()[0].lstrip("# ")
        self.constants: dict[str, Any] = {}
        self.parts: list[Part] = []
        self.written: list[WrittenQuestion] = []
        for cell in self.cells:
            mark = nbgrader_of(cell)
            for constant in CONSTANT.finditer(text_of(cell)):
                value = chosen(constant, key, self.name)
                self.constants[constant["name"]] = ast.literal_eval(value)
            if mark.get("grade") and not isinstance(mark.get("points"), (int, float)):
                raise ValueError(
                    f"{self.path}: {mark.get('grade_id')}: expected its points, got none"
                )
            if mark.get("grade") and mark.get("solution"):
                question = WrittenQuestion(
                    name=mark["grade_id"],
                    title=self.title_before(cell),
                    points=mark["points"],
                    below=self.texts(before=cell)[-1],
                )
                self.written.append(question)
            elif mark.get("grade"):
                self.parts.append(self.part(cell, mark))
        if not self.parts:
            raise ValueError(f"{self.path}: expected a grade cell with a hidden test, got none")

    @property
    def points(self) -> float:
        return sum(part.points for part in [*self.parts, *self.written])

    def title_before(self, cell: NotebookCell) -> str:
        """The last heading above a cell."""
        above = self.cells[: self.cells.index(cell) + 1]
        headings = [
            line for c in above if c["cell_type"] == "markdown" for line in text_of(c).splitlines()
        ]
        titles = [line.lstrip("# ") for line in headings if line.startswith("#")]
        if not titles:
            name = nbgrader_of(cell).get("grade_id")
            raise ValueError(f"{self.path}: {name}: expected a heading above it, got none")
        return titles[-1]

    def texts(self, before: dict[str, Any] | None = None) -> list[str]:
        """The course's texts, as the course key has them; only those before this cell."""
        cells = self.cells[: self.cells.index(before)] if before else self.cells
        texts = [
            cell
            for cell in cells
            if cell["cell_type"] == "markdown" and not nbgrader_of(cell).get("solution")
        ]
        return [with_constants(text_of(cell), self.key, self.name).strip() for cell in texts]

    def part(self, cell: NotebookCell, mark: dict[str, Any]) -> Part:
        """The hidden test of a grade cell."""
        where = f"{self.path}: {mark['grade_id']}"
        hidden = HIDDEN.search(text_of(cell))
        if not hidden:
            raise ValueError(f"{where}: expected a hidden test, got none")
        try:
            tree = ast.parse(hidden[1])
        except SyntaxError as error:
            raise ValueError(f"{where}: its hidden test is no Python: {error}") from None
        # Its last line calls `check`, which is for the teacher's notebook alone.
        kept = [node for node in tree.body if not isinstance(node, ast.Expr)]
        functions = {node.name: node for node in kept if isinstance(node, ast.FunctionDef)}
        if not {"given", "ask", "judge"} <= functions.keys():
            raise ValueError(
                f"{where}: expected given, ask and judge in its hidden test (nbgrader's "
                "asserts go into judge, what they call into ask)"
            )
        asked = ast.unparse(functions["ask"])
        if outside := missing([asked], self.constants | {"ask": None}):
            raise ValueError(
                f"{where}: its ask uses {', '.join(sorted(outside))} from outside; "
                "it travels alone: import or define that inside it"
            )
        names = dict(self.constants)
        try:
            code = compile(ast.Module(kept, []), f"hidden test of {mark['grade_id']}", "exec")
            exec(code, names)
            question = names["given"](course_rng(self.key, self.name, mark["grade_id"]))
            encode(question)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            raise ValueError(f"{where}: its hidden test asks nothing: {text}") from None
        return Part(
            name=mark["grade_id"],
            title=self.title_before(cell),
            points=mark["points"],
            ask=asked,
            given=question,
            judge=names["judge"],
        )

    def locked(self) -> dict[str, str]:
        """The cells that are the course's own and are not tests: by name, as the course key has
        them."""
        found = {}
        for cell in self.cells:
            mark = nbgrader_of(cell)
            if cell["cell_type"] == "code" and mark.get("locked") and not mark.get("grade"):
                found[mark["grade_id"]] = with_constants(text_of(cell), self.key, self.name)
        return found

    def looks(self) -> list[str]:
        """The sources of the cells that only show something (tag "look"), in their order: they run
        to grade only where a solution uses a name of theirs."""
        cells = [cell for cell in self.cells if "look" in cell["metadata"].get("tags", [])]
        return [with_constants(text_of(cell), self.key, self.name).strip() for cell in cells]

    def tests(self) -> dict[str, str]:
        """What each grade cell shows the student: by name, without its hidden region."""
        graded = [
            cell
            for cell in self.cells
            if nbgrader_of(cell).get("grade") and cell["cell_type"] == "code"
        ]
        return {nbgrader_of(c)["grade_id"]: HIDDEN.sub("", text_of(c)).strip() for c in graded}

    def solutions(self) -> list[str]:
        """The names of the cells that a student fills in."""
        marks = [nbgrader_of(cell) for cell in self.cells]
        return [
            mark["grade_id"] for mark in marks if mark.get("solution") and not mark.get("grade")
        ]


def load_assignments(folder: Path, key: str) -> dict[str, Assignment]:
    """Every source notebook of a folder, by name."""
    paths = sorted(Path(folder).glob("*.ipynb"))
    if not paths:
        raise ValueError(f"{folder}: expected source notebooks (*.ipynb), got none")
    loaded = [Assignment(path, key) for path in paths]
    return {assignment.name: assignment for assignment in loaded}
