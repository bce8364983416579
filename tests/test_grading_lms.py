"""What Canvas, Moodle, Blackboard and nbgrader make of a student's file: whose it is, when it came
in, and which of several attempts counts."""

import json
import os
from pathlib import Path

import pytest
import submissions
from submissions import result

from minildm.grading import (
    classroom,
    export,
    find_submissions,
    grade_all,
    kept_results,
    load_assignments,
    read_table,
)
from minildm.grading.lms import handed_in, typed_text

RECEIPT = """Name: Ada Lovelace ({user})
Assignment: Homework 1
Date Submitted: Wednesday, January 31, 2024 12:34:56 PM EST
Current Mark: Needs Marking

Submission Field:
{text}

Comments:
{comments}

Files:
\tOriginal filename: tiny.ipynb
\tFilename: {file}
"""
NO_TEXT = "There is no student submission text data for this assignment."
NO_COMMENTS = "There are no student comments for this assignment."


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    return load_assignments(tmp_path / "source", "key")


def lay(folder: Path, *names: str, text: str | None = None) -> None:
    """Files of the same age, as unpacking makes them."""
    content = json.dumps(submissions.source_notebook()) if text is None else text
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, (10**9, 10**9))


# As their programs write them: the file's name, and the student, the file, late and when.
CANVAS = [
    ("lovelaceada_42_777_tiny.ipynb", "lovelaceada_42", "tiny.ipynb", False),
    ("lovelaceada_LATE_42_777_tiny-1.ipynb", "lovelaceada_42", "tiny-1.ipynb", True),
    ("o_brienbo_43_778_1_forward.ipynb", "o_brienbo_43", "1_forward.ipynb", False),
    ("latekate_44_779_LATE_1_2.ipynb", "latekate_44", "LATE_1_2.ipynb", False),
    ("anon_Ab1cD_780_1_forward.ipynb", "anon_Ab1cD", "1_forward.ipynb", False),
    ("LATE_anon_Xy2zW_781_tiny.ipynb", "anon_Xy2zW", "tiny.ipynb", True),
    ("cruzcelia_LATE_45_text.html", "cruzcelia_45", "cruzcelia_LATE_45_text.html", True),
]


@pytest.mark.parametrize(("name", "student", "file", "late"), CANVAS)
def test_canvas_names_hold_the_user_the_file_and_whether_it_is_late(
    tmp_path, name, student, file, late
):
    lay(tmp_path, name)
    (found,) = handed_in(tmp_path)
    assert (found.student, found.file, found.late, found.when) == (student, file, late, "")
    assert found.typed == name.endswith(".html")


def test_of_canvas_uploads_the_last_counts_whatever_its_name(tmp_path, tiny):
    lay(tmp_path / "in", "ada_42_801_tiny.ipynb", "ada_42_99_tiny-2.ipynb")
    lay(tmp_path / "in", "ada_LATE_42_1002_tiny-1.ipynb")
    (entry,) = find_submissions(tmp_path / "in", tiny)
    assert entry.path and entry.path.name == "ada_LATE_42_1002_tiny-1.ipynb" and entry.late
    assert entry.notes == [
        "3 files; the newest was graded: ada_LATE_42_1002_tiny-1.ipynb; not graded: "
        "ada_42_99_tiny-2.ipynb, ada_42_801_tiny.ipynb"
    ]


@pytest.mark.parametrize("after", ["", "_"], ids=["since-4.1", "before"])
def test_moodles_folder_of_typed_text_and_that_of_files_are_one_students(tmp_path, tiny, after):
    name = "Ada Lovelace_1001_assignsubmission"
    lay(tmp_path / "in" / f"{name}_file{after}", "tiny.ipynb")
    text = "<p>My <b>reasons</b> &amp; doubts</p><script>alert(1)</script>"
    lay(tmp_path / "in" / f"{name}_onlinetext{after}", "onlinetext.html", text=text)
    lay(
        tmp_path / "in" / f"Bo_1002_assignsubmission_onlinetext{after}", "onlinetext.html", text=" "
    )
    ada, bo = find_submissions(tmp_path / "in", tiny)
    assert ada.student == f"{name}_file" and ada.path
    assert ada.notes == [
        "typed into the form beside the files (onlinetext.html): My reasons & doubts"
    ]
    assert bo.path is None and bo.notes == ["no notebook was handed in, but nothing"]


def test_moodle_without_folders(tmp_path, tiny):
    name = "Ada Lovelace_1001_assignsubmission"
    lay(tmp_path / "in", f"{name}_file_tiny.ipynb", f"{name}_file_tiny_2.ipynb")
    lay(tmp_path / "in", f"{name}_onlinetext_onlinetext.html", text="<p>Why not</p>")
    (entry,) = find_submissions(tmp_path / "in", tiny)
    assert entry.student == f"{name}_file"
    assert "2 files" in entry.notes[0] and "Why not" in entry.notes[1]


def test_blackboards_receipt_tells_the_user_from_the_assignment(tmp_path, tiny):
    folder = tmp_path / "in"
    for user, when in (("al_42", "2024-01-31-12-34-56"), ("al_42", "2024-02-01-08-00-00")):
        name = f"Homework_1_{user}_attempt_{when}"
        lay(folder, f"{name}_tiny.ipynb")
        text = RECEIPT.format(
            user=user, text=NO_TEXT, comments="<p>See my note</p>", file=f"{name}_tiny.ipynb"
        )
        lay(folder, f"{name}.txt", text=text)
    name = "Homework_1_bo_attempt_2024-01-30-00-00-01"
    lay(
        folder,
        f"{name}.txt",
        text=RECEIPT.format(user="bo", text=NO_TEXT, comments=NO_COMMENTS, file=""),
    )
    ada, bo = find_submissions(folder, tiny)
    assert ada.student == "al_42" and ada.when == "2024-02-01 08:00:00"
    assert ada.path and "2024-02-01" in ada.path.name
    assert (
        "not graded: Homework_1_al_42_attempt_2024-01-31-12-34-56_tiny.ipynb of 2024-01-31 12:34:56"
        in ada.notes[0]
    )
    assert ada.notes[1].endswith(": See my note") and len(ada.notes) == 3
    assert bo == ("bo", "", None, ["no notebook was handed in, but nothing"], "", False)


def test_without_a_receipt_blackboards_user_is_the_last_word(tmp_path):
    lay(tmp_path, "Homework 1_al42_attempt_2024-01-31-12-34-56_my_attempt_2.ipynb")
    (found,) = handed_in(tmp_path)
    assert (found.student, found.file) == ("al42", "my_attempt_2.ipynb")


@pytest.mark.parametrize(
    ("stamp", "when"),
    [
        ("2015-02-02 15:58:23.948203 America/Los_Angeles", "2015-02-02 15:58:23"),
        ("2015-02-02 15:58:23 UTC", "2015-02-02 15:58:23"),
        ("yesterday", ""),
    ],
)
def test_nbgraders_time_is_read(tmp_path, tiny, stamp, when):
    lay(tmp_path / "in" / "ada" / "tiny", "tiny.ipynb")
    lay(tmp_path / "in" / "ada" / "tiny", "timestamp.txt", text=stamp)
    (entry,) = find_submissions(tmp_path / "in", tiny)
    assert (entry.student, entry.when, entry.notes) == ("ada", when, [])


def test_a_download_in_a_folder_of_its_own_is_no_student(tmp_path, tiny):
    lay(tmp_path / "in" / "week 1" / "Ada_1001_assignsubmission_file_", "tiny.ipynb")
    lay(tmp_path / "in" / "week 1" / "Bo_1002_assignsubmission_file_", "tiny.ipynb")
    lay(tmp_path / "in" / "canvas", "cruz_1_2_tiny.ipynb", "diaz_3_4_tiny.ipynb")
    lay(tmp_path / "in" / "eve", "week_1_2_tiny.ipynb", "week_2_3_tiny.ipynb", "mine.txt")
    students = [entry.student for entry in find_submissions(tmp_path / "in", tiny)]
    files = ["Ada_1001_assignsubmission_file", "Bo_1002_assignsubmission_file"]
    assert students == ["cruz_1", "diaz_3", "eve", *files]


def test_a_link_handed_in_is_told(tmp_path):
    page = '<meta http-equiv="Refresh" content="0;url=https://example.org/x">You are going there'
    lay(tmp_path, "ada_42_link.html", text=page)
    assert typed_text(tmp_path / "ada_42_link.html") == "https://example.org/x"


def test_what_is_late_shows_in_the_table_and_is_kept(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(classroom, "grade_submission", lambda *_: result(3))
    lay(tmp_path / "in", "ada_LATE_42_777_tiny.ipynb", "bo_43_778_tiny.ipynb")
    lay(
        tmp_path / "in", "cy_LATE_44_779_tiny.pdf", "Tiny_di_attempt_2024-01-31-12-34-56_tiny.ipynb"
    )
    out = tmp_path / "out"
    graded = grade_all(find_submissions(tmp_path / "in", tiny, "tiny"), tiny, out)
    assert kept_results(tiny, out) == graded
    assert graded["ada_42", "tiny"].file == "ada_LATE_42_777_tiny.ipynb"
    export(graded, tiny, out, [])
    rows = {
        row["student"]: (row["late"], row["handed_in"]) for row in read_table(out / "grades.csv")
    }
    assert rows == {
        "ada_42": ("late", ""),
        "bo_43": ("", ""),
        "cy_44": ("late", ""),
        "di": ("", "2024-01-31 12:34:56"),
    }


def test_a_file_that_is_late_now_is_graded_again(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(classroom, "grade_submission", lambda *_: result(3))
    for name, late in (("ada_42_777_tiny.ipynb", False), ("ada_LATE_42_777_tiny.ipynb", True)):
        lay(tmp_path / name, name)
        (found,) = grade_all(
            find_submissions(tmp_path / name, tiny), tiny, tmp_path / "out"
        ).values()
        assert found.late == late
