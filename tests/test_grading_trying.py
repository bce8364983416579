"""`minildm-grade try`: what a student may run herself, under the bounds of grading."""

import json

import pytest
import submissions
from typer.testing import CliRunner

from minildm.grading import cli, load_assignments, student_version
from minildm.grading.submission import Unreadable
from minildm.grading.trying import NO_TESTS, try_notebook

RIGHT = {
    "scale": "def scale(x):\n    return FACTOR * x",
    "total": "def total(x):\n    return x.sum()",
}


@pytest.fixture
def released(tmp_path):
    """What the student gets: without the source beside it."""
    (tmp_path / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    notebook = student_version(load_assignments(tmp_path, "key")["tiny"])
    (tmp_path / "tiny.ipynb").unlink()
    return json.loads(json.dumps(notebook))


def tried(released, tmp_path, **cells):
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps(submissions.filled_in(released, **cells)))
    parts, notes = try_notebook(path)
    assert [(part.title, part.points) for part in parts] == [("Scale", 3), ("Total", 5)]
    return [part.message for part in parts], notes


def test_a_right_notebook_passes_and_what_is_not_answered_is_said(released, tmp_path):
    assert tried(released, tmp_path, **RIGHT) == (["", ""], ["Why?: not answered yet"])
    assert tried(released, tmp_path, **RIGHT, why="So.") == (["", ""], [])


def test_each_part_says_what_its_visible_tests_say(released, tmp_path):
    wrong = {"scale": "def scale(x):\n    return x[0]", "total": "def total(x):\n    return 0"}
    messages, _ = tried(released, tmp_path, **wrong)
    assert messages[0].startswith("AssertionError") and messages[1].startswith("AssertionError")
    messages, _ = tried(released, tmp_path)
    assert messages == ["not filled in yet"] * 2


def test_what_only_a_hidden_test_sees_passes_here(released, tmp_path):
    """The visible test of `scale` looks at the shape alone."""
    messages, _ = tried(released, tmp_path, scale="def scale(x):\n    return 0 * x")
    assert messages[0] == ""


def test_the_bounds_are_those_of_grading(released, tmp_path):
    own = submissions.source_notebook()["metadata"]["minildm"]
    assert released["metadata"]["minildm"]["limits"] == own["limits"]
    assert released["metadata"]["minildm"]["step_seconds"] == own["step_seconds"]
    big = "def scale(x):\n    return x\nkept = bytearray(700 << 20)"
    messages, notes = tried(released, tmp_path, **RIGHT | {"scale": big})
    assert any("MemoryError" in note for note in notes)
    endless = "def total(x):\n    while True: pass"
    messages, _ = tried(released, tmp_path, **RIGHT | {"total": endless})
    assert messages[0] == "" and "longer than the 4 seconds" in messages[1]
    dies = "import os\nos._exit(3)"
    messages, _ = tried(released, tmp_path, **RIGHT | {"scale": dies})
    assert all(message.startswith("not run: its process ended") for message in messages)


@pytest.mark.parametrize("content", [{"cells": []}, {"cells": [submissions.cell("1 + 1")]}])
def test_another_notebook_is_refused(tmp_path, content):
    path = tmp_path / "other.ipynb"
    path.write_text(json.dumps(content))
    with pytest.raises(Unreadable, match=NO_TESTS):
        try_notebook(path)


def test_the_command_needs_neither_key_nor_source(released, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps(submissions.filled_in(released, **RIGHT, why="So.")))
    said = CliRunner().invoke(cli.app, ["try", str(path)])
    assert said.exit_code == 0, said.output
    assert "Scale: the visible tests pass" in said.output and "hidden tests" in said.output
    path.write_text(json.dumps(submissions.filled_in(released, scale=RIGHT["scale"])))
    said = CliRunner().invoke(cli.app, ["try", str(path)])
    assert said.exit_code == 1 and "Total: not filled in yet" in said.output
    path.write_text("no notebook")
    said = CliRunner().invoke(cli.app, ["try", str(path)])
    assert said.exit_code == 1 and "mine.ipynb: it is no readable notebook" in said.output
