"""What students get back: the page, and the zips that Moodle and Canvas take."""

import json
import zipfile

import nbformat
import numpy as np
import pytest
import submissions
from submissions import ADA, result

from minildm.grading import export, load_assignments, read_table
from minildm.grading.adjustments import Adjustment
from minildm.grading.feedback import feedback_page, shown
from minildm.grading.marking import Answer, Grade


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    return load_assignments(tmp_path / "source", "key")


def graded(tiny, student: str, points: float | None, comment: str = "", **changes) -> Grade:
    answers = [Answer(q, "=1+1, because", points, "", comment) for q in tiny["tiny"].written]
    return Grade(student, "tiny", result(3, **changes), answers)


def test_the_page_shows_what_was_right_what_was_wrong_and_what_is_not_marked(tiny):
    page = feedback_page(graded(tiny, "a <student>", None, notes=["look & see"]), tiny["tiny"])
    assert '<td>3 of 3</td><td><span class="right">right</span></td>' in page
    assert '<td>0 of 5</td><td><span class="wrong">&lt;b&gt;wrong' in page
    assert "a &lt;student&gt;: graded." in page
    assert "<strong>3</strong> of 8 points in the parts that the machine marks" in page
    assert "<td>not marked yet</td><td><pre>=1+1, because</pre>" in page
    assert "<h2>Notes</h2><ul><li>look &amp; see</li></ul>" in page
    assert "<script" not in page and "http" not in page


def test_the_page_has_the_total_comments_and_changes(tiny):
    grade = graded(tiny, "b", 1.5, comment="Why <that>?")
    rows = (
        Adjustment("b", "tiny", "bonus", "1", "a mistake found", number=1),
        Adjustment("b", "tiny", "comment", "Come & see me.", ""),
    )
    page = feedback_page(grade._replace(changes=rows), tiny["tiny"])
    assert (
        "<strong>5.5</strong> of 10 points" in page and "<li>1 more (a mistake found)</li>" in page
    )
    assert '<p class="comment">Why &lt;that&gt;?</p>' in page
    assert '<p class="comment">Come &amp; see me.</p>' in page


def test_a_lost_part_says_what_it_was_asked_with_and_not_the_answer(tiny):
    page = feedback_page(graded(tiny, "b", 1), tiny["tiny"])
    (total,) = [part for part in tiny["tiny"].parts if part.name == "test-total"]
    numbers = np.array2string(total.given["x"], precision=4, separator=", ")
    assert f"You were here when it failed: x: {numbers} (shape (5,), float64)" in page
    assert page.count("You were here") == 1
    assert f"{total.given['x'].sum():.3f}" not in page


def test_what_a_question_holds_is_told_so_that_it_can_be_made_again():
    assert shown(7) == "7" and shown(0.5) == "0.5" and shown("a seven") == "'a seven'"
    assert shown([1, 2.5]) == "[1, 2.5]" and shown({"seed": 3}) == "{seed: 3}"
    assert shown(np.zeros((2, 3, 4))) == "numbers from 0 to 0 (shape (2, 3, 4), float64)"
    assert shown(["a"] * 9) == "9 values" and shown("x" * 99) == "a text of 99 characters"


def moodle_finds(name: str, participants: set[int]) -> tuple[int, str] | None:
    """As `is_valid_filename_for_import` of Moodle's importziplib.php: whose, and which file."""
    parts = name.split("_", 4)
    if len(parts) < 5 or not parts[1].isdigit() or int(parts[1]) not in participants:
        return None
    known = {("assignsubmission", "file"), ("assignfeedback", "file")}
    return (int(parts[1]), parts[4]) if (parts[2], parts[3]) in known else None


def canvas_finds(name: str) -> tuple[str, str] | None:
    """As `infer_comment_context_from_filename` of Canvas's abstract_assignment.rb: the user and
    the attachment that is commented."""
    words = [word for word in name.split("_") if word != "LATE"]
    if words[0] == "anon":
        return words[1], words[2]
    numbers = [word for word in words if word.isdigit()][:2]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def test_moodles_zip_holds_a_page_that_moodle_gives_to_its_student(tiny, tmp_path):
    odd = "Bo_von_Diddley_1002_assignsubmission_file"
    export({(ADA, "tiny"): result(3), (odd, "tiny"): result(0)}, tiny, tmp_path, [])
    assert not (tmp_path / "canvas-feedback-tiny.zip").exists()
    with zipfile.ZipFile(tmp_path / "moodle-feedback-tiny.zip") as zipped:
        found = [moodle_finds(name, {1001, 1002}) for name in zipped.namelist()]
        pages = [zipped.read(name).decode() for name in zipped.namelist()]
    assert found == [(1001, "tiny-feedback.html"), (1002, "tiny-feedback.html")]
    assert "Ada Lovelace" in pages[0] and "<strong>3</strong> of 8" in pages[0]


def test_canvas_zip_holds_a_notebook_that_canvas_gives_to_the_file(tiny, tmp_path):
    files = {
        "ada_42": "ada_LATE_42_777_tiny.ipynb",
        "anon_Ab1cD": "anon_Ab1cD_778_1_tiny.ipynb",
        "cy_44": "cy_44_text.html",
        "plain": "tiny.ipynb",
    }
    results = {(who, "tiny"): result(3, file=file) for who, file in files.items()}
    export(results, tiny, tmp_path, [])
    assert not (tmp_path / "moodle-feedback-tiny.zip").exists()
    with zipfile.ZipFile(tmp_path / "canvas-feedback-tiny.zip") as zipped:
        found = [canvas_finds(name) for name in zipped.namelist()]
        notebook = nbformat.reads(zipped.read(zipped.namelist()[0]).decode(), as_version=4)
    assert found == [("42", "777"), ("Ab1cD", "778")]
    nbformat.validate(notebook)
    assert "<strong>3</strong> of 8 points" in notebook.cells[0].source


def test_a_comment_in_the_sheet_reaches_the_page_and_stays(tiny, tmp_path):
    export({(ADA, "tiny"): result(3)}, tiny, tmp_path, [])
    path = tmp_path / "written.csv"
    text = path.read_text(encoding="utf-8-sig").rstrip("\r\n")
    assert text.endswith(",,")  # note and comment, both empty
    path.write_text(text[:-1] + ",Your second reason is the better one.\r\n", encoding="utf-8")
    for _ in range(2):
        export({(ADA, "tiny"): result(3)}, tiny, tmp_path, [])
    assert read_table(path)[0]["comment"] == "Your second reason is the better one."
    (page,) = (tmp_path / "tiny" / "feedback").glob("*.html")
    assert "Your second reason" in page.read_text(encoding="utf-8")
