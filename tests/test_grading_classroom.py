"""A folder of submissions becomes results and tables; whatever lies in it gets its row, and nothing
is graded twice."""

import csv
import inspect
import json
import time

import pytest
import submissions
from submissions import ADA, BO, result
from typer.testing import CliRunner

from minildm.grading import (
    classroom,
    cli,
    find_submissions,
    grade,
    grade_all,
    grade_submission,
    kept_results,
    load_assignments,
    prepare,
    read_table,
    student_version,
    with_badges,
)
from minildm.grading.sandbox.session import Died, Session


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    return load_assignments(tmp_path / "source", "key")


def test_moodles_and_canvas_and_nbgraders_folders_are_understood(tiny, tmp_path):
    folder = tmp_path / "in"
    for place in (ADA, "bo@example.org"):
        submissions.hand_in(folder, place, submissions.source_notebook())
    (folder / "lovelaceada_LATE_42_777_tiny-1.ipynb").write_text(
        json.dumps(submissions.source_notebook())
    )
    (folder / f"{BO}_tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    (folder / ".ipynb_checkpoints").mkdir()
    found = {entry.student: entry for entry in find_submissions(folder, tiny)}
    assert set(found) == {ADA, BO, "bo@example.org", "lovelaceada_42"}
    assert {entry.assignment for entry in found.values()} == {"tiny"}


def test_an_accent_apart_from_its_letter_makes_no_second_student(tiny, tmp_path):
    for name in ("Ren\u00e9", "Rene\u0301"):
        submissions.hand_in(tmp_path / "in", name, submissions.source_notebook())
    (entry,) = find_submissions(tmp_path / "in", tiny)
    assert entry.student == "Ren\u00e9" and "2 files" in entry.notes[0]


def test_whatever_lies_in_the_folder_gets_a_row(tiny, tmp_path):
    folder = tmp_path / "in"
    submissions.hand_in(folder, "ada", submissions.source_notebook())
    (folder / "lovelaceada_42_777_report.pdf").write_text("%PDF")
    (folder / "loose.docx").write_text("")
    (folder / "linked").symlink_to(folder / "ada")
    (folder / "empty").mkdir()
    (folder / "two\nlines").mkdir()
    found = {entry.student: entry for entry in find_submissions(folder, tiny)}
    assert set(found) == {"ada", "lovelaceada_42", "loose", "linked", "empty", "two\\nlines"}
    results = grade_all(
        [entry for entry in found.values() if entry.path is None], tiny, tmp_path / "out"
    )
    assert len(results) == 5
    assert all(
        each.score is None and "no notebook was handed in" in each.notes[0]
        for each in results.values()
    )


def test_folders_that_are_graded_one_after_another_share_a_table(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(classroom, "grade_submission", lambda *_: result(3))
    out = tmp_path / "out"
    for folder, student in (("punctual", "a"), ("late", "b")):
        submissions.hand_in(tmp_path / folder, student, submissions.source_notebook())
        grade_all(find_submissions(tmp_path / folder, tiny), tiny, out)
    same = result(3, file="tiny.ipynb")
    assert kept_results(tiny, out) == {("a", "tiny"): same, ("b", "tiny"): same}
    assert kept_results(load_assignments(tmp_path / "source", "next year's"), out) == {}


def test_a_written_answer_is_found_wherever_it_stands(tiny):
    """In its cell; in the cells below it; in a notebook without metadata; not in the bundle's
    badges."""
    own = tiny["tiny"]
    released = json.loads(json.dumps(student_version(own)))
    bundled = json.loads(json.dumps(with_badges(student_version(own), own, "someone/fork")))
    remark = submissions.cell("A remark.", kind="markdown")
    more = submissions.cell("And so on.", kind="markdown")
    filled = submissions.filled_in(released, why="Because.")
    bare = json.loads(json.dumps(filled))
    for cell in bare["cells"]:
        cell["metadata"] = {}
    without_question = bare | {
        "cells": [cell for cell in bare["cells"] if cell["source"] != "## Why?"]
    }
    cells = released["cells"]
    for notebook, answer, words in (
        (released, "", ""),
        (bundled, "", ""),
        (filled, "Because.", ""),
        (filled | {"cells": [remark, *filled["cells"]]}, "Because.", ""),
        (filled | {"cells": [*filled["cells"], more]}, "Because.\n\nAnd so on.", "gathered"),
        (released | {"cells": [remark, *cells, more]}, "And so on.", "gathered"),
        (released | {"cells": [remark, *cells[:-1]]}, "A remark.", "gathered"),
        (bare, "Because.", "gathered"),
        (without_question, "Because.", "gathered"),
    ):
        found = prepare(notebook, own)
        assert found.written == {"why": answer}
        assert ("gathered" in "; ".join(found.notes)) == bool(words)


def test_a_notebook_of_another_course_key_is_told(tiny, tmp_path):
    ours = json.loads(json.dumps(student_version(tiny["tiny"])))
    theirs = json.loads(
        json.dumps(student_version(load_assignments(tmp_path / "source", "last year's")["tiny"]))
    )
    assert prepare(ours, tiny["tiny"]).notes == []
    assert "another course key" in prepare(theirs, tiny["tiny"]).notes[0]


def test_what_is_graded_is_not_graded_again_unless_it_changed(tiny, tmp_path, monkeypatch):
    calls = []

    def graded(path, *_):
        calls.append(path.parent.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return result(3)

    monkeypatch.setattr(classroom, "grade_submission", graded)
    for student in ("a", "b", "c"):
        submissions.hand_in(tmp_path / "in", student, submissions.source_notebook())
    entries, out = find_submissions(tmp_path / "in", tiny), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        grade_all(entries, tiny, out, jobs=1)
    assert len(list(out.rglob("*.json"))) >= 1
    first = calls[0]
    calls[:] = ["", ""]
    assert len(grade_all(entries, tiny, out, jobs=1)) == 3
    assert first not in calls and "b" in calls
    calls[:] = ["", ""]
    grade_all(entries, tiny, out, jobs=1)
    assert calls == ["", ""]
    path = tmp_path / "in" / "a" / "tiny.ipynb"
    path.write_text(path.read_text() + " ")
    grade_all(entries, tiny, out, jobs=1)
    assert calls == ["", "", "a"]


def test_after_ctrl_c_no_submission_that_waits_is_graded(tiny, tmp_path, monkeypatch):
    calls = []

    def graded(path, *_):
        calls.append(path.parent.name)
        time.sleep(0.05)
        return result(3)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(classroom, "grade_submission", graded)
    for student in range(20):
        submissions.hand_in(tmp_path / "in", f"s{student}", submissions.source_notebook())
    with pytest.raises(KeyboardInterrupt):
        entries = find_submissions(tmp_path / "in", tiny)
        grade_all(entries, tiny, tmp_path / "out", jobs=1, done=interrupted)
    assert 1 <= len(calls) < 15
    assert len(list((tmp_path / "out" / "tiny").glob("*.json"))) == len(calls)


def test_a_changed_hidden_test_grades_anew_and_an_unchanged_one_does_not(
    tiny, tmp_path, monkeypatch
):
    """Of two assignments only the one whose hidden test, points or limits changed is graded."""
    source = tmp_path / "source"
    content = submissions.source_notebook()
    content["metadata"]["minildm"]["assignment"] = "tall"
    (source / "tall.ipynb").write_text(json.dumps(content))
    submissions.hand_in(tmp_path / "in", "ada", content).rename(tmp_path / "in/ada/tall.ipynb")
    submissions.hand_in(tmp_path / "in/ada", "more", content).rename(tmp_path / "in/ada/tiny.ipynb")
    calls = []

    def graded(path, assignment, *_):
        calls.append(assignment.name)
        return result(assignment.parts[0].points)

    monkeypatch.setattr(classroom, "grade_submission", graded)

    def points() -> dict[str, float | None]:
        calls.clear()
        assignments = load_assignments(source, "key")
        entries = find_submissions(tmp_path / "in", assignments)
        found = grade_all(entries, assignments, tmp_path / "out", jobs=1)
        assert kept_results(assignments, tmp_path / "out") == found
        return {name: result.score for (_, name), result in found.items()}

    assert points() == {"tiny": 3, "tall": 3} and sorted(calls) == ["tall", "tiny"]
    assert points() == {"tiny": 3, "tall": 3} and calls == []
    hidden, setup = content["cells"][4], content["metadata"]["minildm"]
    for change in (
        lambda: hidden.update(source=hidden["source"].replace("FACTOR * given", "2 * given")),
        lambda: hidden["metadata"]["nbgrader"].update(points=4),
        lambda: setup["limits"].update(seconds=30),
    ):
        change()
        (source / "tall.ipynb").write_text(json.dumps(content))
        assert points()["tiny"] == 3 and calls == ["tall"]
    assert points() == {"tiny": 3, "tall": 4} and calls == []


def test_results_of_another_folder_that_an_older_hidden_test_gave_say_so(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(classroom, "grade_submission", lambda *_: result(3))
    submissions.hand_in(tmp_path / "in", "a", submissions.source_notebook())
    grade_all(find_submissions(tmp_path / "in", tiny), tiny, tmp_path / "out")
    assert kept_results(tiny, tmp_path / "out")["a", "tiny"].notes == []
    path = tmp_path / "source" / "tiny.ipynb"
    path.write_text(path.read_text().replace("FACTOR * given", "2 * given"))
    changed = load_assignments(tmp_path / "source", "key")
    kept = kept_results(changed, tmp_path / "out")["a", "tiny"]
    assert kept.score == 3 and kept.status == "graded, with notes"
    assert "before the assignment was changed" in kept.notes[0]


def test_unless_told_otherwise_a_submission_is_caged(tiny, tmp_path, monkeypatch):
    """From the class's folder down to the process: `namespaces` is what makes the cage."""
    told = []

    def graded(path, assignment, slot, namespaces, judge):
        told.append(namespaces)
        return result(3)

    submissions.hand_in(tmp_path / "in", "a", submissions.source_notebook())
    entries = find_submissions(tmp_path / "in", tiny)
    with monkeypatch.context() as patched:
        patched.setattr(classroom, "grade_submission", graded)
        grade_all(entries, tiny, tmp_path / "out")
        grade_all(entries, tiny, tmp_path / "elsewhere", namespaces=False)
    assert told == [True, False]

    def session(limits, slot, namespaces, stop):
        told.append(namespaces)
        raise Died("enough is known")

    monkeypatch.setattr(grade, "Session", session)
    grade_submission(entries[0].path, tiny["tiny"])
    assert told[2:] == [True] * 4
    assert inspect.signature(Session).parameters["namespaces"].default is True


def test_a_note_of_the_folder_shows_in_the_status(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(classroom, "grade_submission", lambda *_: result(3))
    path = submissions.hand_in(tmp_path / "in", "a", submissions.source_notebook())
    path.with_name("tiny-again.ipynb").write_bytes(path.read_bytes())
    (found,) = grade_all(find_submissions(tmp_path / "in", tiny), tiny, tmp_path / "out").values()
    assert found.status == "graded, with notes" and "2 files" in found.notes[0]


def test_a_failure_of_the_grader_is_no_students_0(tiny, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no room")

    monkeypatch.setattr(classroom, "grade_submission", broken)
    submissions.hand_in(tmp_path / "in", "a", submissions.source_notebook())
    found = grade_all(find_submissions(tmp_path / "in", tiny), tiny, tmp_path / "out", jobs=1)[
        "a", "tiny"
    ]
    assert found.score is None and "the grader itself failed: OSError: no room" in found.notes
    assert not list((tmp_path / "out").rglob("*.json"))


def test_two_weeks_of_a_class_from_the_command_line(tmp_path):
    """One command after the other, as a teacher gives them; the marks of the first week are there
    in the second."""
    for name in ("tiny", "tall"):
        content = submissions.source_notebook()
        content["metadata"]["minildm"]["assignment"] = name
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(content))
    options = ["--source", str(tmp_path), "--key-file", str(tmp_path / "course.key")]

    def command(*words: str):
        return CliRunner().invoke(cli.app, [*map(str, words), *options])

    released, out = tmp_path / "released", tmp_path / "out"
    assert command("grade", tmp_path).exit_code == 2  # no key: nothing is graded with a wrong one
    assert command("release", "--out", released).exit_code == 0
    right = {
        "scale": "def scale(x):\n    return FACTOR * x",
        "total": "def total(x):\n    return x.sum()",
    }
    for name, student, cells in (("tiny", "ada", right), ("tall", "bo", {"total": right["total"]})):
        notebook = submissions.filled_in(
            json.loads((released / f"{name}.ipynb").read_text()), **cells, why="So."
        )
        path = submissions.hand_in(tmp_path / f"week of {name}", student, notebook)
        path.rename(path.with_name("homework.ipynb"))
        said = command(
            "grade",
            tmp_path / f"week of {name}",
            "--out",
            out,
            "--jobs",
            "1",
            "--accept-missing-bounds",
        )
        assert said.exit_code == 0 and "1 written answers to mark" in said.output, said.output
        table = [
            row | {"points": row["points"] or "1,5"} for row in read_table(out / "written.csv")
        ]
        with (out / "written.csv").open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, table[0], delimiter=";")
            writer.writeheader()
            writer.writerows(table)
    said = command("grade", tmp_path / "week of tall", "--out", out, "--accept-missing-bounds")
    assert said.exit_code == 0 and "to mark" not in said.output, said.output
    grades = {
        (row["student"], row["assignment"]): row["total"] for row in read_table(out / "grades.csv")
    }
    assert grades == {("ada", "tiny"): "9.5", ("bo", "tall"): "6.5"}
    assert {path.name for path in out.glob("*.csv")} >= {
        "canvas.csv",
        "moodle-tiny.csv",
        "moodle-tall.csv",
    }
    (out / "written.csv").write_text("student;mark\nada;2\n")
    said = command("grade", tmp_path / "week of tall", "--out", out, "--accept-missing-bounds")
    assert said.exit_code == 2 and (out / "written.csv").read_text() == "student;mark\nada;2\n"


def test_a_machine_that_cannot_bound_something_says_what_and_runs_nothing_unasked(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(cli, "unbounded", lambda: {"network": "a submission can reach the network"})
    monkeypatch.setattr(classroom, "grade_submission", lambda *_: result(3))
    submissions.hand_in(tmp_path / "in", "ada", submissions.source_notebook())
    words = ["grade", str(tmp_path / "in"), "--source", str(tmp_path / "source"), "--key", "key"]
    words += ["--out", str(tmp_path / "out")]
    said = CliRunner().invoke(cli.app, words)
    assert said.exit_code == 2 and not (tmp_path / "out").exists()
    assert "cannot bound: network: a submission can reach the network" in said.output
    assert CliRunner().invoke(cli.app, [*words, "--accept-missing-bounds"]).exit_code == 0
    assert (tmp_path / "out" / "grades.csv").is_file()
