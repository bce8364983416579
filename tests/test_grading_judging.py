"""What a mark hangs on: how near an answer must be, what is said of a wrong one, and how often a
submission that ends its process is started."""

import json

import numpy as np
import pytest
import submissions
import torch

from minildm.grading import (
    Part,
    grade_submission,
    load_assignments,
    mark_part,
    prepare,
    same,
    student_version,
)
from minildm.grading import grade as grader
from minildm.grading.people import people_like
from minildm.grading.tables import read_table, safe, write_table


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    return load_assignments(tmp_path / "source", "key")["tiny"]


@pytest.fixture
def released(tiny):
    return json.loads(json.dumps(student_version(tiny)))


def test_an_answer_may_differ_by_a_ten_thousandth_and_a_hundred_thousandth_near_zero():
    expected = np.array([100.0, -2.0, 0.0])
    same(expected + [0.009, -1.9e-4, 0.9e-5], expected, "x")
    same(torch.tensor([1, 2]), [1.0, 2.0], "x")
    same(True, 1, "x")
    same([], np.zeros(0), "x")
    for off in ([0.011, 0, 0], [0, 2.3e-4, 0], [0, 0, 1.1e-5]):
        with pytest.raises(AssertionError, match=r"^x: 33% of the numbers are wrong, by up to "):
            same(expected + off, expected, "x")
    with pytest.raises(AssertionError, match="67% of the numbers are wrong, by up to 7$"):
        same([3.0, -4.0, 0.0], [1.0, 3.0, 0.0], "x")
    same(5.0, 4.0, "x", rtol=0.26)
    same(5.0, 4.0, "x", atol=1.1)


@pytest.mark.parametrize(
    "got, message",
    [
        (None, "nothing was returned"),
        ("12", "expected numbers, got <U2"),
        ([1 + 2j], "expected numbers, got complex128"),
        ([[1.0]], r"expected the shape \(1,\), got \(1, 1\)"),
        ([np.nan], "not all numbers are finite"),
        ([np.inf], "not all numbers are finite"),
    ],
)
def test_an_answer_of_another_kind_says_which(got, message):
    with pytest.raises(AssertionError, match=f"^x: {message}$"):
        same(got, [1.0], "x")


def test_a_judges_words_are_the_message_and_points_are_all_or_nothing():
    def judged(error: Exception | None):
        def judge(given, got):
            assert (given, got) == ({"x": 1}, 2)
            if error:
                raise error

        reply = {"error": None, "answer": 2}
        return mark_part(Part("test-p", "P", 3, "", {"x": 1}, judge), reply)

    assert judged(None) == ("test-p", "P", 3, 3, "right")
    assert judged(AssertionError("too\n  small")) == ("test-p", "P", 0, 3, "too small")
    assert judged(AssertionError()).message == "the answer is not right"
    read = judged(KeyError("y")).message
    assert read == "the answer cannot be read: KeyError: 'y'"
    for error in (AssertionError("x" * 700), ValueError("x" * 700)):
        assert judged(error).points == 0 and len(judged(error).message) == 600
    part = Part("test-p", "P", 3, "", {}, lambda given, got: None)
    failed = mark_part(part, {"error": "y" * 700})
    assert failed.points == 0 and failed.message == "y" * 600


def test_five_errors_are_named_and_the_others_counted(tiny, released, tmp_path, monkeypatch):
    path = submissions.hand_in(tmp_path, "ada", released)
    errors = {f"cell {n}": "ZeroDivisionError" for n in range(7)} | {"cell 9": f"{grader.EMPTY}: x"}
    replies = {part.name: {"error": "KeyError"} for part in tiny.parts}
    monkeypatch.setattr(grader, "run", lambda *_: (errors, replies, []))
    assert grade_submission(path, tiny).notes == [
        *(f"cell {n}: ZeroDivisionError" for n in range(5)),
        "and 2 more",
    ]
    del errors["cell 5"], errors["cell 6"]
    assert len(grade_submission(path, tiny).notes) == 5
    for reply in replies.values():
        reply["error"] = "\x1b[2J\ud83d"
    assert {mark.message for mark in grade_submission(path, tiny).marks} == {"\\x1b[2J\\ud83d"}
    for reply in replies.values():
        reply["error"] = grader.EMPTY
    assert grade_submission(path, tiny).notes[-1].startswith("nothing filled in")


def test_a_process_is_started_four_times_and_then_what_is_left_is_not_reached(
    tiny, released, tmp_path
):
    notebook = submissions.filled_in(released, scale="def scale(x):\n    return FACTOR * x")
    ends = [submissions.cell("import os\nos._exit(1)") for _ in range(4)]
    cells = notebook["cells"]
    three = submissions.hand_in(tmp_path, "three", notebook | {"cells": [*cells, *ends[1:]]})
    four = submissions.hand_in(tmp_path, "four", notebook | {"cells": [*cells, *ends]})
    scale, total = grade_submission(three, tiny).marks
    assert scale.points == 3 and total.message.startswith(grader.EMPTY)
    for mark in grade_submission(four, tiny).marks:
        assert mark.points == 0 and "the process had to be started 4 times" in mark.message


def test_a_written_answer_is_kept_up_to_its_limit(tiny, released):
    for size, kept in ((20_000, 20_000), (20_001, 20_000)):
        filled = submissions.filled_in(released, why="x" * size)
        assert prepare(filled, tiny).written == {"why": "x" * kept}


@pytest.mark.parametrize(
    "metadata, language",
    [
        ({"kernelspec": {"language": "Python"}}, None),
        ({"kernelspec": {}, "language_info": {"name": "ipython"}}, None),
        ({"kernelspec": "python3", "language_info": "x"}, None),
        ({}, None),
        ({"language_info": {"name": "R"}}, "r"),
        ({"kernelspec": {"language": "julia"}, "language_info": {"name": "python"}}, "julia"),
    ],
)
def test_a_notebook_that_says_nothing_is_python_and_another_language_is_told(
    tiny, released, metadata, language
):
    notebook = released | {"metadata": metadata}
    if language is None:
        assert prepare(notebook, tiny).steps
    else:
        with pytest.raises(Exception, match=f"its kernel is {language}, not Python"):
            prepare(notebook, tiny)


def test_a_person_of_the_roster_is_named_by_one_row_or_not_at_all():
    roster = [
        {"student": "ada", "name": "Ada", "email": "a@x", "login": "al", "canvas_id": "42"},
        {"student": "bo", "name": "Bo", "email": "b@x", "login": "bd", "canvas_id": "43"},
        {"student": "eve", "name": "Bo", "email": "b@x", "login": "eve", "canvas_id": ""},
    ]
    for words in ("ada", "al", "a@x", "Ada_7_assignsubmission_file", "ada_42"):
        assert people_like(words, roster) == roster[:1], words
    for words in ("b@x", "Bo_7_assignsubmission_file", "B@X"):
        assert people_like(words, roster) == roster[1:], words
    for words in ("nobody", "nobody_7", "42", "Eve L"):
        assert people_like(words, roster) == [], words


def test_a_name_is_found_however_a_system_writes_it_and_the_nearest_writing_counts_first():
    roster = [
        {"student": "1", "name": "Jos\u00e9 N\u00fa\u00f1ez", "email": ""},
        {"student": "2", "name": "Jose Nunez", "email": ""},
        {"student": "3", "name": "Zo\u00eb  O\u2019Neil", "email": "Zoe@x"},
    ]
    for written, row in (
        ("Jos\u00e9 N\u00fa\u00f1ez", 0),
        ("Jose\u0301 Nu\u0301n\u0303ez", 0),
        ("JOS\u00c9 N\u00da\u00d1EZ", 0),
        ("Jose Nunez", 1),
        ("Zoe O\u2019Neil", 2),
        ("\uff3a\uff4f\u00eb O\u2019Neil", 2),
    ):
        folder = f"{written}_7_assignsubmission_file"
        assert people_like(folder, roster) == [roster[row]], written
    assert people_like("Jos\u00e8 Nunez_7_assignsubmission_file", roster) == roster[:2]
    assert people_like("ZOE@X", roster) == [roster[2]]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\tx", "\rx"])
def test_what_a_spreadsheet_takes_for_a_formula_gets_an_apostrophe(text, tmp_path):
    assert safe(text) == f"'{text}"
    assert [safe(plain) for plain in ("-", "", "a=1", " =1", "1-2")] == [
        "-",
        "",
        "a=1",
        " =1",
        "1-2",
    ]
    write_table(tmp_path / "t.csv", ["a", "b"], [[text, -1.5]])
    (row,) = read_table(tmp_path / "t.csv", ["a", "b"])
    assert row == {"a": f"'{text}", "b": "-1.5"}
    assert read_table(tmp_path / "none.csv", ["a"]) == []
