"""A folder of submissions becomes results: found, graded side by side, kept, resumed.

Layouts that are understood: a folder per student (nbgrader's, and what Moodle's "download all
submissions" unpacks to), or one folder of files (Canvas's, and Moodle's without folders). A
student's row is never missing and never a silent 0.
"""

from __future__ import annotations

import hashlib
import queue
import re
import time
import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from minildm.files import read_json, write_json
from minildm.grading.assignment import Assignment, fingerprint
from minildm.grading.grade import Mark, Result, digest, grade_submission, not_graded, with_notes
from minildm.grading.sandbox.wire import plain
from minildm.grading.submission import Unreadable, read_notebook, release_of

MOODLE = re.compile(r"^(?P<name>.+)_(?P<participant>\d+)_assignsubmission_file_?$")
# Downloaded without folders.
MOODLE_FILE = re.compile(r"^(?P<folder>.+_\d+_assignsubmission_file)_(?P<file>.+)$")
CANVAS = re.compile(r"^(?P<name>[^_]+)(_LATE)?_(?P<id>\d+)_\d+_(?P<file>.+)$")
HIDDEN_FILES = (".", "__MACOSX")
OUTDATED = "graded before the assignment was changed: grade its folder again"

Results = dict[tuple[str, str], Result]  # by student and assignment


class Entry(NamedTuple):
    """One submission: whose, of what, which file (None: the student handed in nothing that could be
    graded)."""

    student: str
    assignment: str
    path: Path | None
    notes: list[str]


def find_submissions(
    folder: Path, assignments: dict[str, Assignment], only: str | None = None
) -> list[Entry]:
    """Every student of the folder with every assignment handed in; the newest where one stands
    twice."""
    folder = Path(folder)
    entries = []
    for student, paths in files_by_student(folder).items():
        by_name: dict[str, list[Path]] = {}
        for path in paths:
            if path.suffix == ".ipynb" and ".ipynb_checkpoints" not in path.parts:
                name = only or assignment_of(path, folder, assignments)
                by_name.setdefault(name, []).append(path)
        if not by_name:
            handed = plain(", ".join(path.name for path in paths)[:200]) or "nothing"
            notes = [f"no notebook was handed in, but {handed}"]
            entries.append(Entry(student, only or "", None, notes))
        for name, found in by_name.items():
            newest = sorted(found, key=lambda path: path.lstat().st_mtime)[-1]
            notes = [f"{len(found)} files; the newest was graded: {plain(newest.name)}"]
            entries.append(Entry(student, name, newest, notes if len(found) > 1 else []))
    return entries


def files_by_student(folder: Path) -> dict[str, list[Path]]:
    """Whatever lies in the folder, with the student that it belongs to; links are not followed."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(HIDDEN_FILES):
            continue
        if path.is_dir() and not path.is_symlink():
            student = path.name
            inside = [p for p in sorted(path.rglob("*")) if p.is_symlink() or not p.is_dir()]
        else:
            student = student_of(path)
            inside = [path]
        files.setdefault(named(student), []).extend(inside)
    return files


def named(student: str) -> str:
    """A student's name as tables have it: an accent and its letter are one, however a file system
    writes them, and nothing that a terminal obeys is left."""
    return unicodedata.normalize("NFC", plain(student, keep=""))


def student_of(path: Path) -> str:
    """Who handed in a file that lies in no folder of a student's, from its name."""
    if canvas := CANVAS.match(path.name):
        return f"{canvas['name']}_{canvas['id']}"
    if moodle := MOODLE_FILE.match(path.name):
        return moodle["folder"]
    return path.stem


def assignment_of(path: Path, folder: Path, assignments: dict[str, Assignment]) -> str:
    """Which assignment a file belongs to: by its own name, its folder's, or what the notebook says;
    else ""."""
    for text in (path.stem, *(parent.name for parent in path.parents if folder in parent.parents)):
        fitting = [name for name in assignments if name in text]
        if fitting:
            return max(fitting, key=len)
    try:
        named = release_of(read_notebook(path)).get("assignment")
    except Unreadable:
        named = None
    if isinstance(named, str) and named in assignments:
        return named
    return next(iter(assignments)) if len(assignments) == 1 else ""


def file_name(student: str) -> str:
    """A name for files that any system takes, different for different students."""
    name = re.sub(r"[^A-Za-z0-9@+-]+", "_", student)[:80]
    return name if name == student else f"{name}-{hashlib.sha256(student.encode()).hexdigest()[:8]}"


def grade_all(
    entries: Iterable[Entry],
    assignments: dict[str, Assignment],
    out: Path,
    jobs: int = 2,
    namespaces: bool = True,
    done: Callable[[str, Result], None] = lambda student, result: None,
) -> Results:
    """Grade what has not been graded yet, `jobs` side by side; every result is kept as soon as it
    is there."""
    slots: queue.Queue[int] = queue.Queue()
    for slot in range(jobs):
        slots.put(slot)

    def grade_one(entry: Entry) -> Result:
        slot = slots.get()
        try:
            return kept_or_graded(entry, assignments, out, slot, namespaces)
        except Exception as error:  # the grader's own failure: the teacher's to see, no student's 0
            text = f"the grader itself failed: {type(error).__name__}: {error}"
            return not_graded([plain(text[:500])])
        finally:
            slots.put(slot)

    results = {}
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(grade_one, entry): entry for entry in entries}
        try:
            for future in as_completed(running):
                entry = running[future]
                results[entry.student, entry.assignment] = future.result()
                done(entry.student, future.result())
        except BaseException:  # interrupted: what is graded is kept
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return results


def kept_or_graded(
    entry: Entry, assignments: dict[str, Assignment], out: Path, slot: int, namespaces: bool
) -> Result:
    """A submission's result, graded unless it was and is as it was then; a new one is kept."""
    if entry.assignment not in assignments:
        return not_graded(entry.notes or ["it belongs to no assignment that is known"])
    assignment = assignments[entry.assignment]
    kept = out / entry.assignment / f"{file_name(entry.student)}.json"
    stamp = digest(entry.path, assignment) if entry.path else "nothing"
    if kept.is_file():
        found = read_json(kept, "a graded submission")
        if found["digest"] == stamp:
            return result_of(found)
    start = time.monotonic()
    if entry.path:
        result = grade_submission(entry.path, assignment, slot, namespaces)
        result = with_notes(result, entry.notes)
    else:
        result = not_graded(entry.notes)
    kept.parent.mkdir(parents=True, exist_ok=True)
    about = {"digest": stamp, "assignment": assignment.digest}
    about |= {"key": fingerprint(assignment.key), "student": entry.student}
    content = result._asdict() | {"marks": [mark._asdict() for mark in result.marks]}
    write_json(kept, {**about, "seconds": round(time.monotonic() - start, 1), **content})
    return result


def kept_results(assignments: dict[str, Assignment], out: Path) -> Results:
    """What earlier runs have graded there with this course key, of other folders, too.

    A folder that is not graded now keeps what it had; a note tells where the assignment has changed
    since.
    """
    kept = {}
    for name, assignment in assignments.items():
        for path in sorted((out / name).glob("*.json")):
            found = read_json(path, "a graded submission")
            if found.get("key") == fingerprint(assignment.key):
                current = found.get("assignment") == assignment.digest
                notes = [] if current else [OUTDATED]
                kept[named(found["student"]), name] = with_notes(result_of(found), notes)
    return kept


def result_of(found: dict[str, Any]) -> Result:
    """A result from its file."""
    fields = {name: found[name] for name in Result._fields if name != "marks"}
    return Result(**fields, marks=[Mark(**mark) for mark in found["marks"]])
