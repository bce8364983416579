"""`minildm-grade`: release the assignments, grade a class. Its help imports no torch."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minildm.errors import OneLineErrors

if TYPE_CHECKING:
    from minildm.grading.assignment import Assignment
    from minildm.grading.grade import Result


class GraderErrors(OneLineErrors):
    """What a teacher can mend is one line on stderr, too."""

    program = "minildm-grade"


app = typer.Typer(
    cls=GraderErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Release the assignments, and grade a class.",
)

Source = Annotated[Path, typer.Option(help="the folder with the source notebooks")]
Key = Annotated[
    str | None,
    typer.Option(envvar="MINILDM_COURSE_KEY", help="the course key; else that of --key-file"),
]
KeyFile = Annotated[
    Path, typer.Option(dir_okay=False, help="where the course key is kept; `release` makes one")
]


def course_key(key: str | None, file: Path, make: bool = False) -> str:
    """The course key: given, kept, or new; typer.BadParameter if there is none, or an empty one."""
    if key and key.strip():
        return key
    if not file.is_file() and make:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(secrets.token_urlsafe(16) + "\n")
        typer.echo(
            f"{file}: a new course key. Keep it, and keep it secret: grading needs the same one."
        )
    if not file.is_file():
        raise typer.BadParameter(
            f"expected a course key: --key, MINILDM_COURSE_KEY, or the file {file}"
        )
    try:
        kept = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: expected a course key, got none: {error}") from None
    if not kept:
        raise typer.BadParameter(
            f"{file}: expected a course key, got an empty file; delete it for `release` to make one"
        )
    return kept


def sources(folder: Path, key: str) -> dict[str, Assignment]:
    """The assignments, or what is wrong with the folder."""
    from minildm.grading.assignment import load_assignments

    try:
        return load_assignments(folder, key)
    except ValueError as error:
        raise typer.BadParameter(f"{error} (--source says where they are)") from None


@app.command()
def release(
    out: Annotated[
        Path, typer.Option(file_okay=False, help="where the students' notebooks go")
    ] = Path("build/assignments"),
    source: Source = Path("assignments"),
    key: Key = None,
    key_file: KeyFile = Path("course.key"),
    repository: Annotated[
        str, typer.Option(help="owner/name on GitHub, for the badges; without it there are none")
    ] = "",
    book: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="the built book, for the zip")
    ] = None,
) -> None:
    """Try each assignment, then make the students' versions, without solutions and tests."""
    from minildm.grading.release import make_release

    assignments = sources(source, course_key(key, key_file, make=True))
    if not rehearsed(list(assignments.values())):
        typer.echo("Nothing was released.", err=True)
        raise typer.Exit(1)
    for path in make_release(assignments, out, repository, book):
        typer.echo(path)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="a source notebook")],
    key: Key = None,
    key_file: KeyFile = Path("course.key"),
) -> None:
    """Grade an assignment's solution, its misconceptions and an empty copy; say what is wrong."""
    from minildm.grading.assignment import Assignment

    chosen = course_key(key, key_file) if key or key_file.is_file() else "check"
    try:
        assignment = Assignment(file, chosen)
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if not rehearsed([assignment]):
        raise typer.Exit(1)
    typer.echo(f"{assignment.name}: every grade is what it must be")


def rehearsed(assignments: list[Assignment]) -> bool:
    """Whether every grade is what it must be; what is not is said, a line for each."""
    if os.name != "posix":
        typer.echo("Not tried before: that needs Linux or macOS.", err=True)
        return True
    from tqdm import tqdm

    from minildm.grading.rehearsal import faults, rehearsals

    try:
        total = sum(len(rehearsals(assignment)) for assignment in assignments)
        with tqdm(total=total, unit="notebook", disable=None) as bar:
            found = faults(assignments, done=bar.update)
    except (ValueError, RuntimeError) as error:
        found = [str(error)]
    for fault in found:
        typer.echo(fault, err=True)
    return not found


@app.command(name="try")
def try_(
    notebook: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="your notebook")],
) -> None:
    """Run your own notebook and the tests that it shows, as grading will; nothing is hidden in it.

    Exits with 1 where a part is not done.
    """
    from minildm.grading.submission import Unreadable
    from minildm.grading.trying import try_notebook

    for name in unbounded():
        typer.echo(f"This machine does not bound: {name}.", err=True)
    try:
        parts, notes = try_notebook(notebook)
    except (Unreadable, RuntimeError) as error:
        typer.echo(f"{notebook}: {error}", err=True)
        raise typer.Exit(1) from None
    for part in parts:
        typer.echo(f"{part.title}: {part.message or 'the visible tests pass'}")
    for note in notes:
        typer.echo(note)
    typer.echo("When it is graded, hidden tests ask for more of what the text says.")
    if any(part.message for part in parts):
        raise typer.Exit(1)


@app.command()
def bounds() -> None:
    """Say which of the grader's bounds this machine can hold."""
    for name, meaning in unbounded().items():
        typer.echo(f"missing: {name}: {meaning}")
    typer.echo(f"{'all others hold' if unbounded() else 'all bounds hold'} on this machine")


def unbounded() -> dict[str, str]:
    """The bounds that are missing here; all of them where the platform has no POSIX processes."""
    if os.name != "posix":
        raise typer.BadParameter(
            "grading needs Linux or macOS; on Windows use WSL 2, which is Linux"
        )
    from minildm.grading.sandbox.session import missing_bounds

    return missing_bounds()


@app.command()
def grade(
    submissions: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="a folder per student, or files")
    ],
    out: Annotated[
        Path,
        typer.Option(
            file_okay=False, help="grades and feedback; what is graded there is not graded again"
        ),
    ] = Path("build/grades"),
    source: Source = Path("assignments"),
    assignment: Annotated[
        str | None, typer.Option(help="all files belong to this assignment")
    ] = None,
    key: Key = None,
    key_file: KeyFile = Path("course.key"),
    roster: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="CSV: student,name,id,email,canvas_id,login,section"
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="submissions graded side by side, one core each")
    ] = 2,
    accept_missing_bounds: Annotated[
        bool, typer.Option(help="go on where a bound is missing, without asking")
    ] = False,
) -> None:
    """Grade a class: every submission in a bounded process, every answer judged outside it."""
    from tqdm import tqdm

    from minildm.grading import (
        adjustments,
        classroom,
        collecting,
        gradebook,
        marking,
        tables,
    )

    say_missing_bounds(accept_missing_bounds)
    assignments = sources(source, course_key(key, key_file))
    if assignment is not None and assignment not in assignments:
        raise typer.BadParameter(
            f"expected an assignment of {', '.join(assignments)}, got {assignment}"
        )
    chosen = {assignment: assignments[assignment]} if assignment else assignments
    if roster and not roster.is_file():
        raise typer.BadParameter(f"{roster}: expected a roster, got what is no plain file")
    try:  # before anything takes long
        people = tables.read_table(roster, ["student"]) if roster else []
        marking.read_marks(out, assignments)
        adjustments.read_adjustments(out, gradebook.points_of(assignments))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    entries = collecting.find_submissions(submissions, chosen, assignment)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(
            f"{out}: expected a folder to write to: {error.strerror}"
        ) from None
    with tqdm(total=len(entries), unit="submission", disable=None) as bar:

        def show(student: str, result: Result) -> None:
            bar.update()
            bar.set_postfix_str(student[:20])

        graded = classroom.grade_all(entries, chosen, out, jobs, done=show)
    look = sorted({student for (student, _), found in graded.items() if found.score is None})
    results = classroom.kept_results(assignments, out) | graded
    used = {name for _, name in results}
    shown = {name: own for name, own in assignments.items() if name in used} or chosen
    exported = gradebook.export(results, shown, out, people)
    table = out / "grades.csv"
    typer.echo(f"{exported.rows} rows in {table}; to be looked at: {', '.join(look) or 'none'}")
    if nothing := sorted({student for (student, _), found in graded.items() if found.score == 0}):
        typer.echo(f"0 points, {table} says why: {', '.join(nothing)}")
    for question in exported.asked:
        typer.echo(f"To be settled: {question}")
    if exported.unmarked:
        typer.echo(
            f"{exported.unmarked} written answers to mark: "
            f"fill in {out / 'written.csv'} and run this again"
        )
    if exported.strangers:
        typer.echo(
            "marks in written.csv that belong to no submission here: "
            + ", ".join(exported.strangers)
        )


def say_missing_bounds(accepted: bool) -> None:
    """Name what this machine cannot bound; end here unless the teacher goes on all the same."""
    missing = unbounded()
    for name, meaning in missing.items():
        typer.echo(f"This machine cannot bound: {name}: {meaning}.", err=True)
    if not missing or accepted:
        return
    question = "Go on all the same, with submissions that you trust so far?"
    if not sys.stdin.isatty() or not typer.confirm(question):
        typer.echo("Nothing was run. --accept-missing-bounds goes on without asking.", err=True)
        raise typer.Exit(2)


if __name__ == "__main__":
    app()
