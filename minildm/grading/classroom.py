"""A folder of submissions becomes a table of grades: found, graded side by side, resumed, exported.

Layouts that are understood: a folder per student (nbgrader's, and what Moodle's "download all
submissions" unpacks to), or one folder of files (Canvas's, and Moodle's without folders). A
student's row is never missing and never a silent 0.
"""

from __future__ import annotations

import csv
import hashlib
import io
import queue
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from minildm.files import read_json, whole, write_json
from minildm.grading.assignment import Assignment, fingerprint
from minildm.grading.feedback import feedback_page
from minildm.grading.grade import Mark, Result, digest, grade
from minildm.grading.sandbox.wire import plain
from minildm.grading.submission import Unreadable, read_notebook, release_of

MOODLE = re.compile(r"^(?P<name>.+)_(?P<participant>\d+)_assignsubmission_file_?$")
MOODLE_FILE = re.compile(
    r"^(?P<folder>.+_\d+_assignsubmission_file)_(?P<file>.+)$"
)  # downloaded without folders
CANVAS = re.compile(r"^(?P<name>[^_]+)(_LATE)?_(?P<id>\d+)_\d+_(?P<file>.+)$")
HIDDEN_FILES = (".", "__MACOSX")
WRITTEN = [
    "student",
    "assignment",
    "question",
    "points",
    "points_max",
    "answer",
    "note",
]  # of written.csv
ANEW = "another answer than was marked: look at the points, then empty this cell"


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
    files: dict[str, list[Path]] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.name.startswith(HIDDEN_FILES):
            continue
        if path.is_dir() and not path.is_symlink():
            inside = [p for p in sorted(path.rglob("*")) if p.is_symlink() or not p.is_dir()]
            files.setdefault(plain(path.name, keep=""), []).extend(inside)
        else:
            canvas, moodle = CANVAS.match(path.name), MOODLE_FILE.match(path.name)
            student = (
                f"{canvas['name']}_{canvas['id']}"
                if canvas
                else moodle["folder"]
                if moodle
                else path.stem
            )
            files.setdefault(plain(student, keep=""), []).append(path)
    entries = []
    for student, paths in files.items():
        notebooks = [
            p for p in paths if p.suffix == ".ipynb" and ".ipynb_checkpoints" not in p.parts
        ]
        by_name: dict[str, list[Path]] = {}
        for path in notebooks:
            by_name.setdefault(only or assignment_of(path, Path(folder), assignments), []).append(
                path
            )
        if not notebooks:
            handed = plain(", ".join(path.name for path in paths)[:200]) or "nothing"
            entries.append(
                Entry(student, only or "", None, [f"no notebook was handed in, but {handed}"])
            )
        for name, found in by_name.items():
            found.sort(key=lambda p: p.lstat().st_mtime)
            notes = (
                [f"{len(found)} files; the newest was graded: {plain(found[-1].name)}"]
                if len(found) > 1
                else []
            )
            entries.append(Entry(student, name, found[-1], notes))
    return entries


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
) -> dict[tuple[str, str], Result]:
    """Grade what has not been graded yet, `jobs` side by side; every result is kept as soon as it
    is there."""
    slots: queue.Queue[int] = queue.Queue()
    for slot in range(jobs):
        slots.put(slot)

    def one(entry: Entry) -> Result:
        try:
            return graded(entry)
        except (
            Exception
        ) as error:  # the grader's own failure is the teacher's to see, and no student's 0
            text = f"the grader itself failed: {type(error).__name__}: {error}"
            return Result("not graded: look at it", None, 0, [], {}, [plain(text[:500])])

    def graded(entry: Entry) -> Result:
        if entry.assignment not in assignments:
            notes = entry.notes or ["it belongs to no assignment that is known"]
            return Result("not graded: look at it", None, 0, [], {}, notes)
        assignment = assignments[entry.assignment]
        kept = out / entry.assignment / f"{file_name(entry.student)}.json"
        stamp = digest(entry.path, assignment) if entry.path else "nothing"
        if kept.is_file() and (found := read_json(kept, "a graded submission"))["digest"] == stamp:
            return result_of(found)
        slot = slots.get()
        start = time.monotonic()
        try:
            if entry.path:
                result = grade(entry.path, assignment, slot, namespaces)
                result = result._replace(notes=entry.notes + result.notes)
            else:
                result = Result("not graded: look at it", None, 0, [], {}, entry.notes)
        finally:
            slots.put(slot)
        kept.parent.mkdir(parents=True, exist_ok=True)
        about = {"digest": stamp, "key": fingerprint(assignment.key), "student": entry.student}
        content = result._asdict() | {"marks": [m._asdict() for m in result.marks]}
        write_json(kept, {**about, "seconds": round(time.monotonic() - start, 1), **content})
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


def kept_results(assignments: dict[str, Assignment], out: Path) -> dict[tuple[str, str], Result]:
    """What earlier runs have graded there with this course key, of other folders, too."""
    kept = {}
    for name, assignment in assignments.items():
        for path in sorted((out / name).glob("*.json")):
            found = read_json(path, "a graded submission")
            if found.get("key") == fingerprint(assignment.key):
                kept[found["student"], name] = result_of(found)
    return kept


def result_of(found: dict[str, Any]) -> Result:
    """A result from its file."""
    fields = {name: found[name] for name in Result._fields}
    return Result(**fields | {"marks": [Mark(**mark) for mark in found["marks"]]})


def safe(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return (
        f"'{value}"
        if isinstance(value, str) and value[:1] in "=+-@\t\r" and value not in ("", "-")
        else value
    )


def write_table(
    path: Path, header: list[str], rows: Iterable[list[Any]], encoding: str = "utf-8"
) -> None:
    """A CSV file, replaced as a whole. A spreadsheet reads names right in "utf-8-sig", which begins
    with a mark."""
    with whole(path, "w", newline="", encoding=encoding) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([safe(value) for value in row] for row in rows)


def read_table(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """A CSV file's rows by column; [] if there is none. A ValueError unless it has these columns
    and is UTF-8.

    Spreadsheets' byte-order mark is dropped; those of many countries write semicolons, which is
    understood.
    """
    if not path.is_file():
        return []
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(
            f"{path}: expected UTF-8; in a spreadsheet, save it as “CSV UTF-8”"
        ) from None
    first = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    if absent := [name for name in columns if name not in (reader.fieldnames or ())]:
        raise ValueError(
            f"{path}: expected the columns {', '.join(columns)}, but {', '.join(absent)} is missing"
        )
    return list(reader)


def export(
    results: dict[tuple[str, str], Result],
    assignments: dict[str, Assignment],
    out: Path,
    roster: list[dict[str, str]],
) -> int:
    """Write grades.csv, written.csv, what Moodle and Canvas import, and the feedback; how many
    marks are still missing.

    written.csv is for the teacher: points filled in there are read at the next run, and never
    dropped. A grade that was not given, or whose written part is not marked as it stands, is left
    blank for Moodle and Canvas, and is never a 0.
    """
    marked_rows = rows_by_hand(out)
    by_hand = {tuple(row[:3]): row for row in marked_rows}
    people = {student: person for student, _ in results if (person := person_of(student, roster))}
    for row in roster:
        folders = [student for student, person in people.items() if person is row]
        student = next(
            (f for f in folders if not MOODLE.match(f)), row["student"]
        )  # Moodle numbers per assignment
        for name in assignments:
            if not any((folder, name) in results for folder in folders):
                people[student] = row
                results[student, name] = Result("nothing handed in", None, 0, [], {}, [])
    grades, sheet, totals, missing = [], [], {}, 0
    for (student, name), result in sorted(results.items()):
        questions = assignments[name].written if name in assignments else []
        marked: list[float | None] = []
        for question in questions if result.score is not None else []:
            text, points, note = result.written.get(question.name, ""), None, ""
            if given := by_hand.get((safe(student), name, question.name)):
                points = min(max(float(given[3]), 0), question.points)
                note = given[6] or ("" if _letters(given[5]) == _letters(text) else ANEW)
            marked.append(None if note else points)
            sheet.append([student, name, question.name, blank(points), question.points, text, note])
        missing += (pending := marked.count(None))
        total = (
            None
            if result.score is None or pending
            else result.score + sum(points or 0 for points in marked)
        )
        totals[student, name] = total
        parts = "; ".join(
            f"{mark.part} {mark.points:g}/{mark.out_of:g}: {mark.message}" for mark in result.marks
        )
        status = result.status + (", the written part is still to be marked" if pending else "")
        highest = assignments[name].points if name in assignments else ""
        notes = "; ".join(result.notes)
        grades.append(
            [
                student,
                name,
                blank(result.score),
                result.out_of,
                blank(total),
                highest,
                status,
                parts,
                notes,
            ]
        )
        if name in assignments:
            page = out / name / "feedback" / f"{file_name(student)}.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(
                feedback_page(student, assignments[name], result, marked), encoding="utf-8"
            )
    listed = {(safe(student), name, question) for student, name, question, *_ in sheet}
    sheet += [row for row in marked_rows if tuple(row[:3]) not in listed]
    header = [
        "student",
        "assignment",
        "automatic",
        "automatic_max",
        "total",
        "total_max",
        "status",
        "parts",
        "notes",
    ]
    write_table(out / "grades.csv", header, grades, "utf-8-sig")
    write_table(out / "written.csv", WRITTEN, sheet, "utf-8-sig")
    for name, assignment in assignments.items():
        export_moodle(out, name, assignment, totals, people)
    export_canvas(out, assignments, totals, people)
    return missing


def blank(value: float | None) -> str:
    """A number, or nothing."""
    return "" if value is None else f"{value:g}"


def _letters(
    text: str,
) -> str:  # what a spreadsheet leaves of it: not the spaces, not our first apostrophe
    return "".join(text.split()).lstrip("'")


def rows_by_hand(out: Path) -> list[list[str]]:
    """The rows of written.csv that the teacher has filled in; a ValueError for what is no
    number."""
    found = []
    for row in read_table(out / "written.csv", WRITTEN[:-1]):
        if points := (row["points"] or "").strip():
            row["points"] = points.replace(",", ".")
            try:
                float(row["points"])
            except ValueError:
                raise ValueError(
                    f"written.csv: expected points for {row['student']}, got {points!r}"
                ) from None
            found.append([row.get(name) or "" for name in WRITTEN])
    return found


def person_of(student: str, roster: list[dict[str, str]]) -> dict[str, str] | None:
    """The roster's row for a submission: it names the folder, or what nbgrader, Moodle or Canvas
    made its name of."""
    moodle, canvas = MOODLE.match(student), re.search(r"_(\d+)$", student)
    ways = [("student", student), ("id", student), ("login", student), ("email", student)]
    ways += [("name", moodle["name"])] if moodle else []
    ways += [("canvas_id", canvas[1])] if canvas else []
    for column, value in ways:
        found = [row for row in roster if row.get(column) == value]
        if len(found) == 1:
            return found[0]
    return None


def export_moodle(out: Path, name: str, assignment: Assignment, totals: dict, people: dict) -> None:
    """Moodle's grading worksheet: assignment → Upload grading worksheet.

    Moodle finds a row's student by the identifier alone, and refuses a file without one of the
    columns Identifier, Grade, and Last modified (grade). A row without a grade says nothing, lest
    it make one.
    """
    rows = []
    for (student, which), total in sorted(totals.items()):
        match, person = MOODLE.match(student), people.get(student, {})
        if which == name:
            identifier = f"Participant {match['participant']}" if match else ""
            full_name = person.get("name") or (match["name"] if match else student)
            contact = [person.get("id", ""), person.get("email", "")]
            feedback = "" if total is None else f"See {file_name(student)}.html"
            rows.append(
                [identifier, full_name, *contact, blank(total), assignment.points, "-", feedback]
            )
    header = ["Identifier", "Full name", "ID number", "Email address"]
    header += ["Grade", "Maximum Grade", "Last modified (grade)", "Feedback comments"]
    write_table(out / f"moodle-{name}.csv", header, rows)


def export_canvas(
    out: Path, assignments: dict[str, Assignment], totals: dict, people: dict
) -> None:
    """Canvas's gradebook: Grades → Import. The second line holds the points possible."""
    rows: list[list[Any]] = [
        ["    Points Possible", "", "", "", "", *(a.points for a in assignments.values())]
    ]
    for student in sorted({student for student, _ in totals}):
        person, number = people.get(student, {}), re.search(r"_(\d+)$", student)
        identity = person.get("canvas_id") or (number[1] if number else "")
        columns = [
            person.get("name") or student,
            identity,
            person.get("id", ""),
            person.get("login", ""),
        ]
        rows.append(
            [
                *columns,
                person.get("section", ""),
                *(blank(totals.get((student, n))) for n in assignments),
            ]
        )
    header = [
        "Student",
        "ID",
        "SIS User ID",
        "SIS Login ID",
        "Section",
        *(a.title for a in assignments.values()),
    ]
    write_table(out / "canvas.csv", header, rows)
