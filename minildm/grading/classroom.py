"""A folder of submissions becomes a table of grades: found, graded side by side, resumed, exported.

Layouts that are understood: a folder per student (nbgrader's, and what Moodle's "download all submissions" unpacks to),
or one folder of files (Canvas's). A student's row is never missing and never a silent 0.
"""

from __future__ import annotations

import csv
import queue
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from minildm.checkpoints import read_json, write_json
from minildm.grading.assignment import Assignment
from minildm.grading.feedback import feedback_page
from minildm.grading.grade import Mark, Result, digest, grade
from minildm.grading.submission import Unreadable, read_notebook

MOODLE = re.compile(r"^(?P<name>.+)_(?P<participant>\d+)_assignsubmission_file_?$")
CANVAS = re.compile(r"^(?P<name>[^_]+)(_LATE)?_(?P<id>\d+)_\d+_(?P<file>.+)$")
HIDDEN_FILES = (".", "__MACOSX")


class Entry(NamedTuple):
    """One submission: whose, of what, which file (None: the student handed in nothing that could be graded)."""

    student: str
    assignment: str
    path: Path | None
    notes: list[str]


def find_submissions(folder: Path, assignments: dict[str, Assignment], only: str | None = None) -> list[Entry]:
    """Every student of the folder with every assignment handed in; the newest where one stands twice."""
    files: dict[str, list[Path]] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.name.startswith(HIDDEN_FILES):
            continue
        if path.is_dir() and not path.is_symlink():
            files[path.name] = [p for p in sorted(path.rglob("*")) if p.is_symlink() or not p.is_dir()]
        elif path.suffix == ".ipynb":
            match = CANVAS.match(path.name)
            files.setdefault(f"{match['name']}_{match['id']}" if match else path.stem, []).append(path)
    entries = []
    for student, paths in files.items():
        notebooks = [p for p in paths if p.suffix == ".ipynb" and ".ipynb_checkpoints" not in p.parts]
        by_name: dict[str, list[Path]] = {}
        for path in notebooks:
            by_name.setdefault(only or assignment_of(path, Path(folder), assignments), []).append(path)
        if not notebooks:
            handed = ", ".join(path.name for path in paths)[:200] or "nothing"
            entries.append(Entry(student, only or "", None, [f"no notebook was handed in, but {handed}"]))
        for name, found in by_name.items():
            found.sort(key=lambda p: p.lstat().st_mtime)
            notes = [f"{len(found)} files; the newest was graded: {found[-1].name}"] if len(found) > 1 else []
            entries.append(Entry(student, name, found[-1], notes))
    return entries


def assignment_of(path: Path, folder: Path, assignments: dict[str, Assignment]) -> str:
    """Which assignment a file belongs to: by its own name, its folder's, or what the notebook says; else ""."""
    for text in (path.stem, *(parent.name for parent in path.parents if folder in parent.parents)):
        fitting = [name for name in assignments if name in text]
        if fitting:
            return max(fitting, key=len)
    try:
        own = read_notebook(path)["metadata"].get("minildm")
    except Unreadable:
        own = None
    named = own.get("assignment") if isinstance(own, dict) else None
    if isinstance(named, str) and named in assignments:
        return named
    return next(iter(assignments)) if len(assignments) == 1 else ""


def file_name(student: str) -> str:
    """A name for files that any system takes, different for different students."""
    plain = re.sub(r"[^A-Za-z0-9@+-]+", "_", student)[:80]
    return plain if plain == student else f"{plain}-{sum(ord(c) * 257**i for i, c in enumerate(student)) % 16**6:06x}"


def grade_all(
    entries: Iterable[Entry],
    assignments: dict[str, Assignment],
    out: Path,
    jobs: int = 2,
    namespaces: bool = True,
    done: Callable[[str, Result], None] = lambda student, result: None,
) -> dict[tuple[str, str], Result]:
    """Grade what has not been graded yet, `jobs` side by side; every result is kept as soon as it is there."""
    slots: queue.Queue[int] = queue.Queue()
    for slot in range(jobs):
        slots.put(slot)

    def one(entry: Entry) -> Result:
        if entry.path is None:
            return Result("not graded: look at it", None, 0, [], {}, entry.notes)
        if entry.assignment not in assignments:
            return Result("not graded: look at it", None, 0, [], {}, ["it belongs to no assignment that is known"])
        assignment = assignments[entry.assignment]
        kept = out / entry.assignment / f"{file_name(entry.student)}.json"
        stamp = digest(entry.path, assignment)
        if kept.is_file() and (found := read_json(kept, "a graded submission"))["digest"] == stamp:
            return result_of(found)
        slot = slots.get()
        start = time.monotonic()
        try:
            result = grade(entry.path, assignment, slot, namespaces)
        except Exception as error:  # the grader's own failure is the teacher's to see, and no student's 0
            text = f"the grader itself failed: {type(error).__name__}: {error}"
            return Result("not graded: look at it", None, 0, [], {}, [text[:500]])
        finally:
            slots.put(slot)
        result = result._replace(notes=entry.notes + result.notes)
        kept.parent.mkdir(parents=True, exist_ok=True)
        seconds = round(time.monotonic() - start, 1)
        content = result._asdict() | {"marks": [m._asdict() for m in result.marks]}
        write_json(kept, {"digest": stamp, "student": entry.student, "seconds": seconds, **content})
        return result

    results = {}
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(one, entry): entry for entry in entries}
        try:
            for future in as_completed(running):
                entry = running[future]
                results[entry.student, entry.assignment] = future.result()
                done(entry.student, future.result())
        except BaseException:  # interrupted: what is graded is kept
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return results


def result_of(found: dict[str, Any]) -> Result:
    """A result from its file."""
    fields = {name: found[name] for name in Result._fields}
    return Result(**fields | {"marks": [Mark(**mark) for mark in found["marks"]]})


def safe(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def write_table(path: Path, header: list[str], rows: Iterable[list[Any]]) -> None:
    """A CSV file, replaced as a whole."""
    beside = path.with_suffix(".part")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([safe(value) for value in row] for row in rows)
    beside.replace(path)


def read_table(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows by column; [] if there is none. Spreadsheets' byte-order mark is dropped."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def export(
    results: dict[tuple[str, str], Result], assignments: dict[str, Assignment], out: Path, roster: list[dict[str, str]]
) -> int:
    """Write grades.csv, written.csv, what Moodle and Canvas import, and the feedback; how many marks are still missing.

    written.csv is for the teacher: points filled in there are read at the next run. A grade whose written part is not
    marked, or that was not graded, is left blank for Moodle and Canvas: no blank becomes a 0 by itself.
    """
    by_hand = marks_by_hand(out)
    people = {row["student"]: row for row in roster}
    for student in people:
        for name in assignments if roster else ():
            results.setdefault((student, name), Result("nothing handed in", None, 0, [], {}, []))
    grades, sheet, totals, missing = [], [], {}, 0
    for (student, name), result in sorted(results.items()):
        questions = assignments[name].written if name in assignments else []
        marked: list[float | None] = []
        for question in questions if result.score is not None else []:
            given = by_hand.get((student, name, question.name))
            points = min(max(given, 0), question.points) if given is not None else None
            marked.append(points)
            text = result.written.get(question.name, "")
            shown = "" if points is None else f"{points:g}"
            sheet.append([student, name, question.name, shown, question.points, text])
        pending = marked.count(None)
        missing += pending
        total = None if result.score is None or pending else result.score + sum(points or 0 for points in marked)
        totals[student, name] = total
        parts = "; ".join(f"{mark.part} {mark.points:g}/{mark.out_of:g}: {mark.message}" for mark in result.marks)
        status = result.status + (", the written part is still to be marked" if pending else "")
        highest = assignments[name].points if name in assignments else ""
        notes = "; ".join(result.notes)
        grades.append([student, name, blank(result.score), result.out_of, blank(total), highest, status, parts, notes])
        if name in assignments:
            page = out / name / "feedback" / f"{file_name(student)}.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(feedback_page(student, assignments[name], result, marked), encoding="utf-8")
    header = ["student", "assignment", "automatic", "automatic_max", "total", "total_max", "status", "parts", "notes"]
    write_table(out / "grades.csv", header, grades)
    write_table(out / "written.csv", ["student", "assignment", "question", "points", "points_max", "answer"], sheet)
    for name, assignment in assignments.items():
        export_moodle(out, name, assignment, totals, people)
    export_canvas(out, assignments, totals, people)
    return missing


def blank(value: float | None) -> str:
    """A number, or nothing."""
    return "" if value is None else f"{value:g}"


def marks_by_hand(out: Path) -> dict[tuple[str, str, str], float]:
    """What the teacher has filled in; a ValueError for what is no number."""
    found = {}
    for row in read_table(out / "written.csv"):
        if points := (row.get("points") or "").strip():
            try:
                found[row["student"].removeprefix("'"), row["assignment"], row["question"]] = float(points)
            except ValueError:
                raise ValueError(f"written.csv: expected points for {row['student']}, got {points!r}") from None
    return found


def export_moodle(out: Path, name: str, assignment: Assignment, totals: dict, people: dict) -> None:
    """Moodle's grading worksheet: assignment → Upload grading worksheet, or Grades → Import → CSV file."""
    rows = []
    for (student, which), total in sorted(totals.items()):
        match, person = MOODLE.match(student), people.get(student, {})
        if which == name:
            identifier = f"Participant {match['participant']}" if match else ""
            full_name = person.get("name") or (match["name"] if match else student)
            contact = [person.get("id", ""), person.get("email", "")]
            feedback = f"See {file_name(student)}.html"
            rows.append([identifier, full_name, *contact, blank(total), assignment.points, feedback])
    header = ["Identifier", "Full name", "ID number", "Email address", "Grade", "Maximum Grade", "Feedback comments"]
    write_table(out / f"moodle-{name}.csv", header, rows)


def export_canvas(out: Path, assignments: dict[str, Assignment], totals: dict, people: dict) -> None:
    """Canvas's gradebook: Grades → Import. The second line holds the points possible."""
    rows: list[list[Any]] = [["    Points Possible", "", "", "", "", *(a.points for a in assignments.values())]]
    for student in sorted({student for student, _ in totals}):
        person, number = people.get(student, {}), re.search(r"_(\d+)$", student)
        identity = person.get("canvas_id") or (number[1] if number else "")
        columns = [person.get("name") or student, identity, person.get("id", ""), person.get("login", "")]
        rows.append([*columns, person.get("section", ""), *(blank(totals.get((student, n))) for n in assignments)])
    header = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *(a.title for a in assignments.values())]
    write_table(out / "canvas.csv", header, rows)
