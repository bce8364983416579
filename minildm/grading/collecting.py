"""A class's folder is searched: whose submission of what each file is, and which of several
attempts counts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from minildm.grading.assignment import Assignment
from minildm.grading.lms import TIMESTAMP, HandedIn, handed_in, typed_text
from minildm.grading.sandbox.wire import plain
from minildm.grading.submission import Unreadable, read_notebook, release_of


class Entry(NamedTuple):
    """One submission: whose, of what, which file (None: the student handed in nothing that could be
    graded), when it came in, and whether late."""

    student: str
    assignment: str
    path: Path | None
    notes: list[str]
    when: str = ""
    late: bool = False


def find_submissions(
    folder: Path, assignments: dict[str, Assignment], only: str | None = None
) -> list[Entry]:
    """Every student of the folder with every assignment handed in; the newest where one stands
    twice."""
    folder = Path(folder)
    students: dict[str, list[HandedIn]] = {}
    for file in handed_in(folder):
        students.setdefault(file.student, []).append(file)
    entries = []
    for student, files in students.items():
        by_name: dict[str, list[HandedIn]] = {}
        for file in files:
            notebook = file.file.lower().endswith(".ipynb")
            if notebook and ".ipynb_checkpoints" not in file.path.parts:
                name = only or assignment_of(file, folder, assignments)
                by_name.setdefault(name, []).append(file)
        typed = notes_on_typed(files)
        if not by_name:
            names = [file.file for file in files if file.file and not file.typed]
            handed = plain(", ".join(names)[:200]) or "nothing"
            notes = [f"no notebook was handed in, but {handed}", *typed]
            late = any(file.late for file in files)
            entries.append(Entry(student, only or "", None, notes, late=late))
        for name, found in by_name.items():
            *others, newest = sorted(found, key=lambda file: file.age)
            notes = []
            if others:
                before = ", ".join(with_time(file) for file in others)[:300]
                notes = [
                    f"{len(found)} files; the newest was graded: {with_time(newest)}; not graded: "
                    f"{before}"
                ]
            notes += typed
            entry = Entry(student, name, newest.path, notes, newest.when, newest.late)
            entries.append(entry)
    return entries


def notes_on_typed(files: list[HandedIn]) -> list[str]:
    """What the student wrote into the LMS's form, which is nowhere else."""
    notes = []
    for file in files:
        if file.typed and file.path.name != TIMESTAMP and (text := typed_text(file.path)):
            short = text if len(text) <= 300 else f"{text[:300]} …"
            notes.append(f"typed into the form beside the files ({plain(file.path.name)}): {short}")
    return notes


def with_time(file: HandedIn) -> str:
    """A file's name for a note, with when it came in."""
    return plain(f"{file.path.name} of {file.when}" if file.when else file.path.name)


def assignment_of(file: HandedIn, folder: Path, assignments: dict[str, Assignment]) -> str:
    """Which assignment a file belongs to: by the student's name for it, the LMS's, its folder's, or
    what the notebook says; else ""."""
    above = [parent.name for parent in file.path.parents if folder in parent.parents]
    for text in (file.file, file.path.stem, *above):
        fitting = [name for name in assignments if name in text]
        if fitting:
            return max(fitting, key=len)
    try:
        said = release_of(read_notebook(file.path)).get("assignment")
    except Unreadable:
        said = None
    if isinstance(said, str) and said in assignments:
        return said
    return next(iter(assignments)) if len(assignments) == 1 else ""
