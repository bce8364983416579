# ruff: noqa: E501
"""A teacher's slip is told before it becomes the students' zero: in a line, with what to change."""

import json

import pytest
import submissions
from typer.testing import CliRunner

from minildm.grading import cli, load_assignments
from minildm.grading.rehearsal import faults, misconceptions_of

MEAN = """
["the mean is no total"]
right = "return x.sum()"
wrong = "return x.mean()"
costs = ["test-total"]
"""


@pytest.fixture
def source(tmp_path):
    """What makes a source notebook of the tiny assignment, with replacements in its cells."""

    def make(*changes: tuple[str, str], wrong: str = MEAN, drop: str = ""):
        notebook = submissions.source_notebook()
        for old, new in changes:
            assert [cell for cell in notebook["cells"] if old in cell["source"]], old
            for cell in notebook["cells"]:
                cell["source"] = cell["source"].replace(old, new)
        kept = [cell for cell in notebook["cells"] if not drop or drop not in cell["source"]]
        (tmp_path / "tiny.ipynb").write_text(json.dumps(notebook | {"cells": kept}))
        (tmp_path / "tiny.toml").write_text(wrong)
        return tmp_path / "tiny.ipynb"

    return make


def check(path):
    """The exit status and the lines of `minildm-grade check`."""
    said = CliRunner().invoke(cli.app, ["check", str(path), "--key", "key"])
    return said.exit_code, [line for line in said.output.splitlines() if "tiny" in line]


def test_nothing_is_said_of_an_assignment_that_grades_as_it_must(source):
    assert check(source()) == (0, ["tiny: every grade is what it must be"])


JUDGE = 'same(got["y"], given[\'x\'].sum(), "total")'


@pytest.mark.parametrize(
    "change, words",
    [
        ((JUDGE, 'same(got["z"], 1, "total")'), "loses test-total (the answer cannot be read: KeyError"),
        ((JUDGE, 'same(got["y"], 1 + given["x"].sum(), "total")'), "the solution loses test-total (total: "),
        ((JUDGE, "pass"), "the misconception 'the mean is no total' keeps test-total: let its"),
        (('student.total(given["x"])', 'given["x"].sum()'), "an empty copy keeps test-total"),
        (("assert total(np.ones(2)) == 2", "assert total(np.ones(2)) == 3"), "students see of test-total (Asse"),
        (("import numpy as np\n\nFACTOR", "import numpy as np\n1 / 0\n\nFACTOR"), "noted: cell 2: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_a_grade_that_is_not_as_it_must_be_is_told_with_its_part(source, change, words):
    status, lines = check(source(change))
    assert status == 1 and any(words in line for line in lines), lines


@pytest.mark.parametrize(
    "changes, drop, words",
    [
        ([('student.total(given["x"])', 'student.total(np.abs(given["x"]))')], "",
         "test-total: its ask uses np from outside; it travels alone: import or define that inside"),
        ([("def judge", "def judged")], "", "expected given, ask and judge in its hidden test (nbgrader"),
        ([("### BEGIN HIDDEN TESTS", "### BEGIN"), ("### END HIDDEN TESTS", "### END")], "",
         "test-scale: expected a hidden test, got none"),
        ([('return {"x": rng.normal(size=5)}', "return {'x': object()}")], "", "asks nothing: ValueError"),
        ([("def given(rng):", "def given(rng)")], "", "its hidden test is no Python"),
        ([("# Tiny\n\nTwo parts.", "Two parts."), ("## Scale", "Scale")], "",
         "test-scale: expected a heading above it, got none"),
    ],
)  # fmt: skip
def test_a_notebook_that_cannot_be_graded_by_says_what_to_change(source, changes, drop, words):
    status, lines = check(source(*changes, drop=drop))
    assert status == 1 and len(lines) == 1 and words in lines[0], lines


@pytest.mark.parametrize(
    "wrong, words",
    [
        (MEAN.replace("x.sum()", "x.total()"), "expected its `right` in the solution once, got 0"),
        (MEAN.replace("test-total", "total"), "costs total, which is no part"),
        (MEAN.replace("wrong", "false"), "expected tables with right, wrong and costs"),
        ("[", "expected tables with right, wrong and costs"),
    ],
)
def test_misconceptions_that_cannot_be_read_are_told(source, wrong, words):
    status, lines = check(source(wrong=wrong))
    assert status == 1 and words in lines[0], lines


def test_a_misconception_that_costs_more_than_its_part_is_told(source, tmp_path):
    lost = MEAN.replace('"return x.sum()"', '"FACTOR * x"').replace("x.mean()", "0 * x")
    source(wrong=lost.replace("return 0", "0"))
    (tiny,) = load_assignments(tmp_path, "key").values()
    assert [wrong.costs for wrong in misconceptions_of(tiny)] == [["test-total"]]
    first, second = faults([tiny])
    assert "loses test-scale (scale: 100% of the numbers are wrong" in first
    assert "keeps test-total" in second


def test_without_a_list_of_misconceptions_the_solution_and_an_empty_copy_are_tried(
    source, tmp_path
):
    source().with_suffix(".toml").unlink()
    (tiny,) = load_assignments(tmp_path, "key").values()
    tried = []
    assert faults([tiny], jobs=1, done=lambda: tried.append(1)) == [] and len(tried) == 2


def test_nothing_is_released_where_a_grade_is_not_as_it_must_be(source, tmp_path):
    source((JUDGE, "pass"))
    out = tmp_path / "out"
    words = ["release", "--source", str(tmp_path), "--out", str(out), "--key", "key"]
    said = CliRunner().invoke(cli.app, words)
    assert said.exit_code == 1 and not out.exists()
    assert "Nothing was released." in said.output and "keeps test-total" in said.output
    source()
    assert CliRunner().invoke(cli.app, words).exit_code == 0 and (out / "tiny.ipynb").is_file()
