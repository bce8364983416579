"""A class of thirty: how long does `minildm-grade` take, does it survive being killed, and is every
grade right?

    python benchmarks/class_of_thirty.py [--jobs 2] [--out FOLDER]

Makes the submissions from the assignments in this repository, as Moodle unpacks them: five for each
of the six assignments (solved, half solved, untouched, one whose code ends its process, one with a
syntax error). Grading is killed after a few submissions and started again; then every grade is
compared with what it must be.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minildm.grading import Assignment, load_assignments, nbgrader_of, student_version, text_of

ROOT = Path(__file__).parents[1]
KEY = "the class of thirty"
KINDS = ("solved", "half", "untouched", "exits", "typo")
NAMES = "Ada Bo Chen Dara Elif Femi Gita Hugo Ines Jonas Kofi Lena Mira Noor".split()
SURNAMES = ("Adler", "Brook", "Costa")


def submission(assignment: Assignment, kind: str) -> tuple[dict, float]:
    """A notebook of this kind, and the points that it must get."""
    bodies = {nbgrader_of(cell).get("grade_id"): text_of(cell) for cell in assignment.cells}
    cells, points = assignment.solutions(), [part.points for part in assignment.parts]
    filled = {cell: bodies[cell] for cell in cells}
    if kind == "half":
        filled, points = {cell: bodies[cell] for cell in cells[:2]}, points[:2]
    elif kind == "untouched":
        filled, points = {}, []
    elif kind == "exits":
        filled[cells[-1]], points = "import os\nos._exit(0)", points[:-1]
    elif kind == "typo":
        filled[cells[-1]], points = "def almost(:", points[:-1]
    notebook = json.loads(json.dumps(student_version(assignment)))
    for cell in notebook["cells"]:
        name = nbgrader_of(cell).get("grade_id")
        cell["source"] = filled.get(name, cell["source"])
    return notebook, sum(points)


def make_class(assignments: dict[str, Assignment], folder: Path) -> dict[str, float]:
    """Thirty folders, as Moodle names them; the points each must get."""
    expected = {}
    students = [f"{name} {surname}" for surname in SURNAMES for name in NAMES]
    for i, (name, kind) in enumerate((name, kind) for name in assignments for kind in KINDS):
        notebook, points = submission(assignments[name], kind)
        student = f"{students[i]}_{1001 + i}_assignsubmission_file"
        (folder / student).mkdir(parents=True)
        (folder / student / f"{name}.ipynb").write_text(json.dumps(notebook))
        expected[student] = points
    return expected


def command(folder: Path, out: Path, jobs: int) -> list[str]:
    """What a teacher types to grade the class."""
    grader = [sys.executable, "-m", "minildm.grading.cli", "grade", str(folder), "--out", str(out)]
    options = ["--source", str(ROOT / "assignments"), "--jobs", str(jobs)]
    return [*grader, *options, "--accept-missing-bounds"]


def graded(out: Path) -> dict[Path, int]:
    """The results so far, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in out.glob("*/*.json")}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument(
        "--out", type=Path, help="where submissions and grades go; else a temporary folder"
    )
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run((given.out or Path(temporary)).resolve(), given.jobs)


def run(folder: Path, jobs: int) -> None:
    """Make the class, grade it, kill that, grade it to the end, and look at every grade."""
    handed_in, out = folder / "submitted", folder / "grades"
    expected = make_class(load_assignments(ROOT / "assignments", KEY), handed_in)
    environment = os.environ | {"MINILDM_COURSE_KEY": KEY, "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    first = subprocess.Popen(command(handed_in, out, jobs), env=environment)
    while first.poll() is None and len(graded(out)) < 4:
        time.sleep(0.2)
    first.kill()
    first.wait()
    before = graded(out)
    seconds = time.monotonic() - start
    print(f"killed after {seconds:.0f} s, with {len(before)} of {len(expected)} graded", flush=True)
    subprocess.run(command(handed_in, out, jobs), env=environment, check=True)
    seconds = time.monotonic() - start
    kept = {path: when for path, when in graded(out).items() if before.get(path) == when}
    assert kept == before, "what was graded before was graded again"
    with (out / "grades.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(expected), "a row is missing"
    for student, points in expected.items():
        row = rows[student]
        grade, notes = f"{row['automatic']:>3}/{row['automatic_max']}", row["notes"][:60]
        print(f"{student.split('_')[0]:14} {row['assignment']:26} {grade} {notes}")
        assert float(row["automatic"]) == points, (student, points, row)
    print(
        f"{len(rows)} submissions in {seconds:.0f} s on the clock, {jobs} side by side, "
        f"after a kill at {len(before)}"
    )
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = spent.ru_utime + spent.ru_stime
    print(f"every grade is right; processor time of the grader itself {own:.0f} s")


if __name__ == "__main__":
    main()
