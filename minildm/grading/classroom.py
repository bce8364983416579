"""Submissions become results: graded side by side, kept, resumed.

A student's row is never missing and never a silent 0.
"""

from __future__ import annotations

import hashlib
import json
import queue
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from itertools import chain
from pathlib import Path

from minildm.files import read_json, write_json
from minildm.grading.assignment import Assignment, fingerprint
from minildm.grading.bounded_judge import BoundedJudge
from minildm.grading.collecting import Entry
from minildm.grading.grade import Result, digest, grade_submission, not_graded, with_notes
from minildm.grading.judging import Mark
from minildm.grading.lms import spelled
from minildm.grading.sandbox.wire import plain

DAMAGED = "what was kept of its grading is damaged: grade its folder again"
OUTDATED = "graded before the assignment was changed: grade its folder again"

Results = dict[tuple[str, str], Result]  # by student and assignment


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
    judge = BoundedJudge()

    def grade_one(entry: Entry) -> Result:
        slot = slots.get()
        try:
            return kept_or_graded(entry, assignments, out, slot, namespaces, judge)
        except Exception as error:  # the grader's own failure: the teacher's to see, no student's 0
            text = f"the grader itself failed: {type(error).__name__}: {error}"
            return not_graded([plain(text[:500])])
        finally:
            slots.put(slot)

    results = {}
    with judge, ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(grade_one, entry): entry for entry in entries}
        try:
            for future in as_completed(running):
                entry = running[future]
                results[entry.student, entry.assignment] = future.result()
                done(entry.student, future.result())
        except KeyboardInterrupt:  # what is graded is kept
            raise KeyboardInterrupt(
                f": {len(results)} of {len(running)} submissions are graded, and kept in {out}; "
                "the same command goes on from there"
            ) from None
        finally:
            judge.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return results


def kept_or_graded(
    entry: Entry,
    assignments: dict[str, Assignment],
    out: Path,
    slot: int,
    namespaces: bool,
    judge: BoundedJudge,
) -> Result:
    """A submission's result, graded unless it was and is as it was then; a new one is kept. What
    was kept of it and is damaged is graded again."""
    if entry.assignment not in assignments:
        unknown = not_graded(entry.notes or ["it belongs to no assignment that is known"])
        return unknown._replace(late=entry.late)
    assignment = assignments[entry.assignment]
    kept = out / entry.assignment / f"{file_name(entry.student)}.json"
    file = entry.path.name if entry.path else ""
    about_file = json.dumps([entry.student, file, entry.when, entry.late, entry.notes])
    stamp = digest(entry.path, assignment) if entry.path else "nothing"
    stamp = hashlib.sha256(f"{stamp} {about_file}".encode()).hexdigest()
    with suppress(ValueError, FileNotFoundError):
        found, result = read_result(kept)
        if found["digest"] == stamp:
            return result
    start = time.monotonic()
    if entry.path:
        result = grade_submission(entry.path, assignment, slot, namespaces, judge)
        result = with_notes(result, entry.notes)
    else:
        result = not_graded(entry.notes)
    result = result._replace(file=plain(file), when=entry.when, late=entry.late)
    kept.parent.mkdir(parents=True, exist_ok=True)
    about = {"digest": stamp, "assignment": assignment.digest}
    about |= {"key": fingerprint(assignment.key), "student": entry.student}
    content = result._asdict() | {"marks": [mark._asdict() for mark in result.marks]}
    write_json(kept, {**about, "seconds": round(time.monotonic() - start, 1), **content})
    return result


def kept_results(assignments: dict[str, Assignment], out: Path) -> Results:
    """What earlier runs have graded there with this course key, of other folders, too.

    A folder that is not graded now keeps what it had; a note tells where the assignment has changed
    since, or where what was kept is damaged.
    """
    kept = {}
    for name, assignment in assignments.items():
        for path in sorted((out / name).glob("*.json")):
            try:
                found, result = read_result(path)
            except (ValueError, OSError):
                kept[path.stem, name] = not_graded([DAMAGED])
                continue
            if found["key"] == fingerprint(assignment.key):
                current = found["assignment"] == assignment.digest
                notes = [] if current else [OUTDATED]
                kept[spelled(found["student"]), name] = with_notes(result, notes)
    return kept


def read_result(path: Path) -> tuple[dict[str, str], Result]:
    """A kept result, and of what it is: digest, assignment, key, student. A ValueError names the
    file if it is damaged."""
    found = read_json(path, "a graded submission")
    try:
        about = {name: found[name] for name in ("digest", "assignment", "key", "student")}
        names = set(Result._fields) - {"marks"} - (Result._field_defaults.keys() - found.keys())
        fields = {name: found[name] for name in names}
        result = Result(**fields, marks=[Mark(**mark) for mark in found["marks"]])
        texts = [
            *about.values(),
            result.status,
            result.file,
            result.when,
            *result.notes,
            *chain(*result.written.items()),
        ]
        numbers = [result.out_of, *([] if result.score is None else [result.score])]
        for mark in result.marks:
            texts += [mark.part, mark.title, mark.message]
            numbers += [mark.points, mark.out_of]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected a graded submission, got: {error}") from None
    lists = (result.notes, found["marks"])
    odd = [value for value in lists if not isinstance(value, list)]
    odd += [text for text in texts if not isinstance(text, str)]
    odd += [text for text in about.values() if not text]
    odd += [] if isinstance(result.late, bool) else [result.late]
    odd += [n for n in numbers if isinstance(n, bool) or not isinstance(n, (int, float)) or n != n]
    if odd:
        raise ValueError(f"{path}: expected a graded submission, got {odd[0]!r} in it")
    return about, result
