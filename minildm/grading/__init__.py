"""Assignments that grade themselves, written and read as nbgrader does.

A name below is imported when it is first used: what a submission runs in is started from this
package, too, and must be quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minildm.grading.assignment import Assignment, Part, load_assignments, nbgrader_of, text_of
    from minildm.grading.classroom import grade_all, kept_results
    from minildm.grading.collecting import find_submissions
    from minildm.grading.grade import Result, grade_submission
    from minildm.grading.gradebook import export
    from minildm.grading.judging import Mark, check, mark_part, same, seed_of
    from minildm.grading.release import make_release, student_version, with_badges
    from minildm.grading.submission import prepare
    from minildm.grading.tables import read_table

__all__ = [
    "Assignment",
    "Mark",
    "Part",
    "Result",
    "check",
    "export",
    "find_submissions",
    "grade_all",
    "grade_submission",
    "kept_results",
    "load_assignments",
    "make_release",
    "mark_part",
    "nbgrader_of",
    "prepare",
    "read_table",
    "same",
    "seed_of",
    "student_version",
    "text_of",
    "with_badges",
]

_FILES = {
    "assignment": ["Assignment", "Part", "load_assignments", "nbgrader_of", "text_of"],
    "classroom": ["grade_all", "kept_results"],
    "collecting": ["find_submissions"],
    "grade": ["Result", "grade_submission"],
    "gradebook": ["export"],
    "judging": ["Mark", "check", "mark_part", "same", "seed_of"],
    "release": ["make_release", "student_version", "with_badges"],
    "submission": ["prepare"],
    "tables": ["read_table"],
}


def __getattr__(name: str) -> Any:
    """Import a name's file on first use (PEP 562)."""
    for file, names in _FILES.items():
        if name in names:
            return getattr(import_module(f"minildm.grading.{file}"), name)
    raise AttributeError(f"module 'minildm.grading' has no attribute {name!r}")
