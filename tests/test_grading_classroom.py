"""A folder of submissions becomes tables that Moodle, Canvas and a teacher read, and nothing is graded twice."""

import csv
import json

import pytest
import submissions

from minildm.grading import classroom
from minildm.grading.assignment import load_assignments
from minildm.grading.classroom import export, find_submissions, grade_all, read_table
from minildm.grading.grade import Mark, Result

ADA, BO = "Ada Lovelace_1001_assignsubmission_file", "Bo Diddley_1002_assignsubmission_file"


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    return load_assignments(tmp_path / "source", "key")


def result(points: float, **changes) -> Result:
    marks = [Mark("test-scale", "Scale", points, 3, "right"), Mark("test-total", "Total", 0, 5, "<b>wrong</b>")]
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
    (folder / "lovelaceada_LATE_42_777_tiny-1.ipynb").write_text(json.dumps(submissions.source_notebook()))
    (folder / ".hidden").mkdir()
    found = {entry.student: entry for entry in find_submissions(folder, tiny)}
    assert set(found) == {ADA, "bo@example.org", "lovelaceada_42"}
    assert {entry.assignment for entry in found.values()} == {"tiny"}


def test_moodles_grading_worksheet(tiny, tmp_path):
    results = {(ADA, "tiny"): result(3), (BO, "tiny"): result(0, score=None, marks=[], notes=["look"])}
    assert export(dict(results), tiny, tmp_path, []) == 1
    fill_in(tmp_path / "written.csv", "1.5")
    assert export(dict(results), tiny, tmp_path, []) == 0
    header, ada, bo = rows(tmp_path / "moodle-tiny.csv")
    assert header == [
        "Identifier", "Full name", "ID number", "Email address", "Grade", "Maximum Grade", "Feedback comments"
    ]  # fmt: skip
    assert ada[:6] == ["Participant 1001", "Ada Lovelace", "", "", "4.5", "10"]
    assert bo[:6] == ["Participant 1002", "Bo Diddley", "", "", "", "10"]


def test_canvas_gradebook(tiny, tmp_path):
    roster = [
        {"student": "a_42", "name": "Lovelace, Ada", "id": "S1", "login": "ada", "section": "A", "canvas_id": ""},
        {"student": "c", "name": "Cruz, Celia", "id": "S3", "login": "celia", "section": "B", "canvas_id": "44"},
    ]
    export({("a_42", "tiny"): result(3)}, tiny, tmp_path, roster)
    fill_in(tmp_path / "written.csv", "2")
    export({("a_42", "tiny"): result(3)}, tiny, tmp_path, roster)
    assert rows(tmp_path / "canvas.csv") == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Tiny"],
        ["    Points Possible", "", "", "", "", "10"],
        ["Lovelace, Ada", "42", "S1", "ada", "A", "5"],
        ["Cruz, Celia", "44", "S3", "celia", "B", ""],  # nothing handed in: a row, and no 0 by itself
    ]


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
    found = grade_all(find_submissions(tmp_path / "in", tiny), tiny, tmp_path / "out", jobs=1)["a", "tiny"]
    assert found.score is None and "the grader itself failed: OSError: no room" in found.notes
    assert not list((tmp_path / "out").rglob("*.json"))
