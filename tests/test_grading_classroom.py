"""A folder of submissions becomes tables that Moodle, Canvas and a teacher read, and nothing is
graded twice."""

import csv
import json

import pytest
import submissions
from typer.testing import CliRunner

from minildm.grading import classroom, cli
from minildm.grading.assignment import load_assignments
from minildm.grading.classroom import (
    ANEW,
    export,
    find_submissions,
    grade_all,
    kept_results,
    read_table,
)
from minildm.grading.grade import Mark, Result
from minildm.grading.release import release, with_badges
from minildm.grading.submission import prepare

ADA, BO = "Ada Lovelace_1001_assignsubmission_file", "Bo Diddley_1002_assignsubmission_file"


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    return load_assignments(tmp_path / "source", "key")


def result(points: float, **changes) -> Result:
    marks = [
        Mark("test-scale", "Scale", points, 3, "right"),
        Mark("test-total", "Total", 0, 5, "<b>wrong</b>"),
    ]
    return Result("graded", points, 8, marks, {"why": "=1+1, because"}, [])._replace(**changes)


def rows(path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def fill_in(path, points: str) -> None:
    """What a teacher does in a spreadsheet, which writes a byte-order mark."""
    table = read_table(path)
    for row in table:
        row["points"] = points
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)


def test_moodles_and_canvas_and_nbgraders_folders_are_understood(tiny, tmp_path):
    folder = tmp_path / "in"
    for place in (ADA, "bo@example.org"):
        submissions.hand_in(folder, place, submissions.source_notebook())
    (folder / "lovelaceada_LATE_42_777_tiny-1.ipynb").write_text(
        json.dumps(submissions.source_notebook())
    )
    (folder / f"{BO}_tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    (folder / ".hidden").mkdir()
    found = {entry.student: entry for entry in find_submissions(folder, tiny)}
    assert set(found) == {ADA, BO, "bo@example.org", "lovelaceada_42"}
    assert {entry.assignment for entry in found.values()} == {"tiny"}


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


def test_moodles_grading_worksheet(tiny, tmp_path):
    results = {
        (ADA, "tiny"): result(3),
        (BO, "tiny"): result(0, score=None, marks=[], notes=["look"]),
    }
    assert export(dict(results), tiny, tmp_path, []) == 1
    fill_in(tmp_path / "written.csv", "1.5")
    assert export(dict(results), tiny, tmp_path, []) == 0
    header, ada, bo = rows(tmp_path / "moodle-tiny.csv")
    assert header == [
        "Identifier", "Full name", "ID number", "Email address",
        "Grade", "Maximum Grade", "Last modified (grade)", "Feedback comments",
    ]  # fmt: skip
    assert ada[:7] == ["Participant 1001", "Ada Lovelace", "", "", "4.5", "10", "-"]
    assert ada[7].startswith("See Ada_Lovelace")
    assert bo == [
        "Participant 1002",
        "Bo Diddley",
        "",
        "",
        "",
        "10",
        "-",
        "",
    ]  # nothing that Moodle would take over


def test_canvas_gradebook(tiny, tmp_path):
    roster = [
        {
            "student": "a_42",
            "name": "Lovelace, Ada",
            "id": "S1",
            "login": "ada",
            "section": "A",
            "canvas_id": "",
        },
        {
            "student": "c",
            "name": "Cruz, Celia",
            "id": "S3",
            "login": "celia",
            "section": "B",
            "canvas_id": "44",
        },
    ]
    export({("a_42", "tiny"): result(3)}, tiny, tmp_path, roster)
    fill_in(tmp_path / "written.csv", "2")
    export({("a_42", "tiny"): result(3)}, tiny, tmp_path, roster)
    assert rows(tmp_path / "canvas.csv") == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Tiny"],
        ["    Points Possible", "", "", "", "", "10"],
        ["Lovelace, Ada", "42", "S1", "ada", "A", "5"],
        [
            "Cruz, Celia",
            "44",
            "S3",
            "celia",
            "B",
            "",
        ],  # nothing handed in: a row, and no 0 by itself
    ]


def test_a_roster_knows_people_by_what_moodle_and_canvas_call_them(tiny, tmp_path):
    roster = [
        {
            "student": "ada",
            "name": "Ada Lovelace",
            "id": "S1",
            "email": "ada@x",
            "canvas_id": "",
            "login": "al",
        },
        {
            "student": "cruz",
            "name": "Celia Cruz",
            "id": "S2",
            "email": "cc@x",
            "canvas_id": "44",
            "login": "cc",
        },
        {
            "student": "idle",
            "name": "Idle Jane",
            "id": "S3",
            "email": "ij@x",
            "canvas_id": "45",
            "login": "ij",
        },
    ]
    export({(ADA, "tiny"): result(3), ("cruzcelia_44", "tiny"): result(0)}, tiny, tmp_path, roster)
    _, *sheet = rows(tmp_path / "moodle-tiny.csv")
    assert sorted(row[:4] for row in sheet) == [
        ["", "Celia Cruz", "S2", "cc@x"],
        ["", "Idle Jane", "S3", "ij@x"],
        ["Participant 1001", "Ada Lovelace", "S1", "ada@x"],
    ]
    status = {row["student"]: row["status"] for row in read_table(tmp_path / "grades.csv")}
    assert status["idle"] == "nothing handed in" and len(status) == 3


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_marks_survive_a_spreadsheet_and_another_folder(tiny, tmp_path, separator):
    """What a teacher has typed is in no case lost, whatever is exported next."""
    people = {("'t Hooft", "tiny"): result(3), ("=cmd()", "tiny"): result(3)}
    export(dict(people), tiny, tmp_path, [])
    fill_in(tmp_path / "written.csv", "1,5")
    table = rows(tmp_path / "written.csv")
    with (tmp_path / "written.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows(table)
    assert export({(ADA, "tiny"): result(3)}, tiny, tmp_path, []) == 1  # another folder
    assert export(dict(people), tiny, tmp_path, []) == 0
    assert {row["total"] for row in read_table(tmp_path / "grades.csv")} == {"4.5"}


def test_a_table_that_cannot_be_read_is_not_written_over(tiny, tmp_path):
    path = tmp_path / "written.csv"
    for content, words in (
        (b"student;points\na;1", "assignment, question"),
        ("ü".encode("cp1252"), "expected UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            export({(ADA, "tiny"): result(3)}, tiny, tmp_path, [])
        assert path.read_bytes() == content


def test_folders_that_are_graded_one_after_another_share_a_table(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(classroom, "grade", lambda *_: result(3))
    out = tmp_path / "out"
    for folder, student in (("punctual", "a"), ("late", "b")):
        submissions.hand_in(tmp_path / folder, student, submissions.source_notebook())
        grade_all(find_submissions(tmp_path / folder, tiny), tiny, out)
    assert kept_results(tiny, out) == {("a", "tiny"): result(3), ("b", "tiny"): result(3)}
    assert kept_results(load_assignments(tmp_path / "source", "next year's"), out) == {}


def test_a_written_answer_is_found_wherever_it_stands(tiny):
    """In its cell; in the cells below it; in a notebook without metadata; not in the bundle's
    badges."""
    own = tiny["tiny"]
    released = json.loads(json.dumps(release(own)))
    bundled = json.loads(json.dumps(with_badges(release(own), own, "someone/fork")))
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
    ours = json.loads(json.dumps(release(tiny["tiny"])))
    theirs = json.loads(
        json.dumps(release(load_assignments(tmp_path / "source", "last year's")["tiny"]))
    )
    assert prepare(ours, tiny["tiny"]).notes == []
    assert "another course key" in prepare(theirs, tiny["tiny"]).notes[0]


def test_a_grade_is_blank_until_the_written_part_is_marked(tiny, tmp_path):
    assert export({(ADA, "tiny"): result(3)}, tiny, tmp_path, []) == 1
    (row,) = read_table(tmp_path / "grades.csv")
    assert (row["automatic"], row["total"], row["total_max"]) == ("3", "", "10")
    assert "still to be marked" in row["status"]
    fill_in(tmp_path / "written.csv", "99")  # more than there is
    assert export({(ADA, "tiny"): result(3)}, tiny, tmp_path, []) == 0
    assert read_table(tmp_path / "grades.csv")[0]["total"] == "5"
    fill_in(tmp_path / "written.csv", "two")
    with pytest.raises(ValueError, match="expected points for .*, got 'two'"):
        export({(ADA, "tiny"): result(3)}, tiny, tmp_path, [])


def test_another_answer_than_was_marked_is_to_be_marked_again(tiny, tmp_path):
    """Its points stay in the sheet, with a note, and the grade stays blank until the teacher has
    emptied the note."""

    def total(answer):
        missing = export({(ADA, "tiny"): result(3, written={"why": answer})}, tiny, tmp_path, [])
        return (
            missing,
            read_table(tmp_path / "grades.csv")[0]["total"],
            read_table(tmp_path / "written.csv")[0]["note"],
        )

    assert total("= because\nof noise") == (1, "", "")
    fill_in(tmp_path / "written.csv", "1.5")
    assert total("=  because\r\nof noise ") == (0, "4.5", "")  # a spreadsheet may have done that
    changed = (1, "", ANEW)
    assert total("because of the schedule") == changed
    assert total("because of the schedule") == changed
    (row,) = read_table(tmp_path / "written.csv")
    assert (row["points"], row["answer"]) == ("1.5", "because of the schedule")
    path = tmp_path / "written.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(ANEW, ""), encoding="utf-8")
    assert total("because of the schedule") == (0, "4.5", "")


def test_what_a_student_writes_is_neither_a_formula_nor_a_page(tiny, tmp_path):
    export({("=cmd()", "tiny"): result(3)}, tiny, tmp_path, [])
    for path in tmp_path.glob("*.csv"):
        for row in rows(path):
            assert not [cell for cell in row if cell.startswith("=")], path
    (page,) = (tmp_path / "tiny" / "feedback").glob("*.html")
    assert "<b>" not in page.read_text() and "&lt;b&gt;wrong" in page.read_text()


def test_what_is_graded_is_not_graded_again_unless_it_changed(tiny, tmp_path, monkeypatch):
    calls = []

    def graded(path, *_):
        calls.append(path.parent.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return result(3)

    monkeypatch.setattr(classroom, "grade", graded)
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


def test_a_failure_of_the_grader_is_no_students_0(tiny, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no room")

    monkeypatch.setattr(classroom, "grade", broken)
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
    monkeypatch.setattr(classroom, "grade", lambda *_: result(3))
    submissions.hand_in(tmp_path / "in", "ada", submissions.source_notebook())
    words = ["grade", str(tmp_path / "in"), "--source", str(tmp_path / "source"), "--key", "key"]
    words += ["--out", str(tmp_path / "out")]
    said = CliRunner().invoke(cli.app, words)
    assert said.exit_code == 2 and not (tmp_path / "out").exists()
    assert "cannot bound: network: a submission can reach the network" in said.output
    assert CliRunner().invoke(cli.app, [*words, "--accept-missing-bounds"]).exit_code == 0
    assert (tmp_path / "out" / "grades.csv").is_file()
