"""No zero without a sentence: what is no solution any more, and what never was one."""

import copy
import json

import pytest
import submissions
from typer.testing import CliRunner

from minildm.grading import cli, grade_submission, load_assignments, prepare, student_version
from minildm.grading.notes import definitions

RIGHT = {
    "scale": "def scale(x):\n    return FACTOR * x",
    "total": "def total(x):\n    return x.sum()",
}


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    return load_assignments(tmp_path / "source", "key")["tiny"]


@pytest.fixture
def right(tiny):
    released = json.loads(json.dumps(student_version(tiny)))
    return submissions.filled_in(released, **RIGHT)


def other_notebook() -> dict:
    """Another assignment's: other cells, other names."""
    cells = [
        submissions.cell("# Other", kind="markdown"),
        submissions.cell("def elsewhere(x):\n    return x\n\nLIMIT: int = 3", "elsewhere"),
    ]
    return submissions.notebook(cells, minildm={"assignment": "other"})


@pytest.mark.parametrize("kind", ["markdown", "raw"])
@pytest.mark.parametrize("named", [True, False])
def test_a_solution_that_is_no_code_cell_any_more_is_noted_with_what_stands_in_it(
    tiny, right, tmp_path, kind, named
):
    (cell,) = (c for c in right["cells"] if c["source"] == RIGHT["total"])
    number = right["cells"].index(cell) + 1
    cell["cell_type"] = kind
    cell["source"] = f"```python\n{cell['source']}\n```"
    if not named:
        cell["metadata"] = {}
    result = grade_submission(submissions.hand_in(tmp_path, "ada", right), tiny)
    what = "the cell total" if named else f"cell {number}"
    assert f"{what} is a {kind} cell, with total in it: it was not run" in result.notes
    assert result.score == 3 and result.status == "graded, with notes"


def test_an_emptied_solution_is_noted(tiny, right):
    notes = prepare(submissions.filled_in(right, total=" \n"), tiny).notes
    assert notes == ["the cell total was emptied"]
    assert prepare(right, tiny).notes == []


def test_another_notebook_is_no_zero_but_a_sentence_with_what_was_found(tiny, tmp_path):
    nameless = copy.deepcopy(other_notebook())
    nameless["metadata"].pop("minildm")
    for cell in nameless["cells"]:
        cell["metadata"] = {}
    empty = submissions.notebook([])
    for student, content, words in (
        ("other", other_notebook(), "the notebook of 'other', handed in as 'tiny'"),
        ("nameless", nameless, "it is another notebook, handed in as 'tiny'"),
        ("empty", empty, "what it defines: nothing"),
    ):
        result = grade_submission(submissions.hand_in(tmp_path, student, content), tiny)
        assert result.score is None and result.status == "not graded: look at it"
        assert words in result.notes[0], result.notes
        if content is not empty:
            assert "what it defines: LIMIT, elsewhere" in result.notes[0]


def test_another_notebook_that_shares_a_name_is_told_by_what_it_says_of_itself(tiny, tmp_path):
    """Assignments 3 and 6 both ask for a ddim_step."""
    shared = other_notebook()
    shared["cells"].append(submissions.cell("def total(x):\n    return 0"))
    result = grade_submission(submissions.hand_in(tmp_path, "ada", shared), tiny)
    assert result.score is None and "elsewhere, total" in result.notes[0]


def test_the_right_cells_in_a_notebook_that_calls_itself_another_are_graded(tiny, right, tmp_path):
    right["metadata"]["minildm"]["assignment"] = "other"
    result = grade_submission(submissions.hand_in(tmp_path, "ada", right), tiny)
    assert result.score == 8
    assert result.notes == ["it says that it is 'other', handed in as 'tiny'"]


def test_a_teacher_is_told_of_every_zero_and_of_every_grade_that_was_not_given(tiny, tmp_path):
    released = json.loads(json.dumps(student_version(tiny)))
    submissions.hand_in(tmp_path / "in", "idle", released)
    submissions.hand_in(tmp_path / "in", "astray", other_notebook())
    submissions.hand_in(tmp_path / "in", "ada", submissions.filled_in(released, **RIGHT))
    words = ["grade", str(tmp_path / "in"), "--source", str(tmp_path / "source"), "--key", "key"]
    words += ["--out", str(tmp_path / "out"), "--accept-missing-bounds"]
    said = CliRunner().invoke(cli.app, words).output
    assert "to be looked at: astray\n" in said
    assert "grades.csv says why: idle\n" in said


def test_what_a_text_defines_is_read_without_running_it():
    text = "def a(x): pass\nasync def b(): b2 = 1\nclass C:\n    d = 1\ne, f = 1, 2\ng = h == 1\n"
    assert definitions(text + "i: int = 3\nj == 2\n%%time\nk(l=1)\ndef broken(:") == {
        "a", "b", "C", "g", "i", "broken",
    }  # fmt: skip
