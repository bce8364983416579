"""The teacher's marks and the machine's become tables for Moodle, Canvas and a spreadsheet, and no
mark is lost."""

import csv
import json
import unicodedata

import pytest
import submissions
from submissions import ADA, BO, result

from minildm.grading import export, load_assignments, read_table
from minildm.grading.marking import ANEW


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    return load_assignments(tmp_path / "source", "key")


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


def test_moodles_grading_worksheet(tiny, tmp_path):
    results = {
        (ADA, "tiny"): result(3),
        (BO, "tiny"): result(0, score=None, marks=[], notes=["look"]),
    }
    assert export(dict(results), tiny, tmp_path, []).unmarked == 1
    fill_in(tmp_path / "written.csv", "1.5")
    assert export(dict(results), tiny, tmp_path, []).unmarked == 0
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
    assert export({(ADA, "tiny"): result(3)}, tiny, tmp_path, []).unmarked == 1  # another folder
    assert export(dict(people), tiny, tmp_path, []).unmarked == 0
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


def test_a_grade_is_blank_until_the_written_part_is_marked(tiny, tmp_path):
    assert export({(ADA, "tiny"): result(3)}, tiny, tmp_path, []).unmarked == 1
    (row,) = read_table(tmp_path / "grades.csv")
    assert (row["automatic"], row["total"], row["total_max"]) == ("3", "", "10")
    assert "still to be marked" in row["status"]
    fill_in(tmp_path / "written.csv", "2")
    assert export({(ADA, "tiny"): result(3)}, tiny, tmp_path, []).unmarked == 0
    assert read_table(tmp_path / "grades.csv")[0]["total"] == "5"
    fill_in(tmp_path / "written.csv", "0")
    export({(ADA, "tiny"): result(3)}, tiny, tmp_path, [])
    assert read_table(tmp_path / "grades.csv")[0]["total"] == "3"


@pytest.mark.parametrize("typed", ["two", "nan", "inf", "-1", "2.5", "20", "1.000,5", "=2"])
def test_points_that_a_question_cannot_have_are_refused_with_row_and_column(tiny, tmp_path, typed):
    people = {(ADA, "tiny"): result(3), (BO, "tiny"): result(3)}
    export(dict(people), tiny, tmp_path, [])
    path = tmp_path / "written.csv"
    table = rows(path)
    table[2][3] = typed
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.csv")}
    words = f"written.csv, row 3, column points: expected points from 0 to 2 for .*, got '{typed}'"
    with pytest.raises(ValueError, match=words.replace("+", r"\+")):
        export(dict(people), tiny, tmp_path, [])
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.csv")} == before


def test_one_answer_with_two_marks_is_refused_with_both_rows(tiny, tmp_path):
    export({(ADA, "tiny"): result(3)}, tiny, tmp_path, [])
    fill_in(tmp_path / "written.csv", "1")
    table = rows(tmp_path / "written.csv")
    table.append([*table[1][:3], "2", *table[1][4:]])
    with (tmp_path / "written.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    with pytest.raises(ValueError, match="row 3, column points: 2, but row 2 says 1"):
        export({(ADA, "tiny"): result(3)}, tiny, tmp_path, [])


def test_comments_and_a_teachers_own_columns_stay_and_withhold_nothing(tiny, tmp_path):
    """Through another answer, another folder, and before there are points."""
    path = tmp_path / "written.csv"
    first = {(ADA, "tiny"): result(3), (BO, "tiny"): result(3)}
    export(dict(first), tiny, tmp_path, [])
    table = rows(path)
    table[0] += ["seen by", "shift"]
    table[1][3:4] = ["1.5"]
    table[1][6:] = ["well put", "Say why.", "KM", "-1"]
    table[2][6:] = ["ask her", "", "", "late"]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)

    def kept():
        return [[r["points"], r["note"], r["seen by"], r["shift"]] for r in read_table(path)]

    assert export(dict(first), tiny, tmp_path, []).unmarked == 1
    assert kept() == [["1.5", "well put", "KM", "-1"], ["", "ask her", "", "late"]]
    assert read_table(tmp_path / "grades.csv")[0]["total"] == "4.5"
    assert export({("eve", "tiny"): result(3)}, tiny, tmp_path, []).strangers == [ADA]
    assert [row[1] for row in kept()] == ["", "well put", "ask her"]
    other = {(ADA, "tiny"): result(3, written={"why": "on second thoughts"})}
    assert export(other, tiny, tmp_path, []).unmarked == 1
    assert kept()[0] == ["1.5", f"{ANEW} well put", "KM", "-1"]
    path.write_text(path.read_text(encoding="utf-8").replace(ANEW, ""), encoding="utf-8")
    assert export(other, tiny, tmp_path, []).unmarked == 0


def test_a_column_without_a_heading_is_refused(tiny, tmp_path):
    export({(ADA, "tiny"): result(3)}, tiny, tmp_path, [])
    table = rows(tmp_path / "written.csv")
    table[1].append("well put")
    with (tmp_path / "written.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    with pytest.raises(ValueError, match="row 2: expected a heading above every column"):
        export({(ADA, "tiny"): result(3)}, tiny, tmp_path, [])


def test_another_answer_than_was_marked_is_to_be_marked_again(tiny, tmp_path):
    """Its points stay in the sheet, with a note, and the grade stays blank until the teacher has
    emptied the note."""

    def total(answer):
        results = {(ADA, "tiny"): result(3, written={"why": answer})}
        missing = export(results, tiny, tmp_path, []).unmarked
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


def test_marks_that_belong_to_no_submission_are_named_and_kept(tiny, tmp_path):
    both = {("=cmd()", "tiny"): result(3), ("bo", "tiny"): result(3)}
    assert export(both, tiny, tmp_path, [{"student": "celia"}]) == (3, 2, [], [])
    fill_in(tmp_path / "written.csv", "1")
    assert export({("=cmd()", "tiny"): result(3)}, tiny, tmp_path, []) == (1, 0, ["bo"], [])
    assert export({("ada", "tiny"): result(3)}, tiny, tmp_path, []) == (1, 1, ["'=cmd()", "bo"], [])
    assert len(read_table(tmp_path / "written.csv")) == 3


def test_a_student_who_stands_twice_in_the_roster_keeps_the_grade(tiny, tmp_path):
    roster = [{"student": "ada", "section": section} for section in "AB"]
    export({("ada", "tiny"): result(3, written={})}, tiny, tmp_path, roster)
    (row,) = read_table(tmp_path / "grades.csv")
    assert (row["automatic"], row["status"][:6]) == ("3", "graded")


def test_one_person_in_two_spellings_is_one_row_with_the_grade(tiny, tmp_path):
    """A file system takes the accent off its letter, the roster does not."""
    roster = [{"student": "17", "name": "Ren\u00e9 D"}, {"student": "ren\u00e9", "name": "R"}]
    people = {("Ren\u00e9 D_7_assignsubmission_file", "tiny"): result(3)}
    people |= {("ren\u00e9", "tiny"): result(0)}
    decomposed = [{k: unicodedata.normalize("NFD", v) for k, v in row.items()} for row in roster]
    exported = export(people, tiny, tmp_path, decomposed)
    assert (exported.rows, exported.asked) == (2, [])
    fill_in(tmp_path / "written.csv", "1")
    path = tmp_path / "written.csv"
    path.write_text(unicodedata.normalize("NFD", path.read_text(encoding="utf-8")), "utf-8")
    assert export(people, tiny, tmp_path, decomposed).unmarked == 0


def test_who_is_who_is_asked_and_not_guessed(tiny, tmp_path):
    roster = [{"student": "17", "name": "Bo"}, {"student": "18", "name": "bo"}]
    one = {("BO_7_assignsubmission_file", "tiny"): result(3)}
    exported = export(dict(one), tiny, tmp_path, roster)
    assert exported.asked == [
        "BO_7_assignsubmission_file may be 17 or 18: write it into the roster's column student"
    ]
    status = {row["student"]: row["status"] for row in read_table(tmp_path / "grades.csv")}
    assert status["17"] == status["18"] == "who is who? perhaps BO_7_assignsubmission_file"
    roster[0]["student"] = "BO_7_assignsubmission_file"  # what the teacher answers
    exported = export(dict(one), tiny, tmp_path, roster)
    assert (exported.rows, exported.asked) == (2, [])
    twice = {("17", "tiny"): result(3), ("bo_8_assignsubmission_file", "tiny"): result(0)}
    roster = [{"student": "17", "name": "Bo"}]
    assert export(twice, tiny, tmp_path, roster).asked == [
        "17 and bo_8_assignsubmission_file are both 17: keep one of tiny"
    ]
