"""A class is graded whatever lies about: answers that a judge cannot bear, damaged results, keys
and rosters that are none, folders with odd names, and a teacher who presses Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import submissions
import torch
from typer.testing import CliRunner

from minildm.grading import bounded_judge as bounded
from minildm.grading import classroom, cli, grade_all, kept_results, load_assignments
from minildm.grading import find_submissions as find
from minildm.grading.bounded_judge import BoundedJudge
from minildm.grading.classroom import DAMAGED, Entry
from minildm.grading.sandbox.session import Stopped

GREEDY = """
### BEGIN HIDDEN TESTS
import os
import time

import numpy as np

from minildm.grading import check


def given(rng):
    return {"x": rng.normal(size=5)}


def ask(student, given):
    return student.double(given["x"])


def judge(given, got):
    if isinstance(got, str) and got == "die":
        os._exit(3)
    if isinstance(got, str):
        time.sleep(60)
    print("what a judge prints is no mark")
    assert np.allclose(got[:, None] * got, 2 * given["x"]), "double: another product"


check(given, ask, judge, globals())
### END HIDDEN TESTS
"""


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    return load_assignments(tmp_path / "source", "key")


@pytest.fixture
def greedy(tmp_path):
    """An assignment whose judge computes before it looks at the shape."""
    notebook = submissions.source_notebook()
    (cell,) = [c for c in notebook["cells"] if "test-scale" in str(c["metadata"])]
    cell["source"] = GREEDY.strip() + "\n"
    path = tmp_path / "greedy.ipynb"
    path.write_text(json.dumps(notebook))
    return cli.sources(tmp_path, "key")["tiny"]


def test_an_answer_that_its_judge_cannot_bear_costs_its_own_part_and_nothing_else(
    greedy, monkeypatch
):
    part = next(part for part in greedy.parts if part.name == "test-scale")
    before = memory()
    with BoundedJudge() as judge:
        large = judge.mark(greedy, part, {"error": None, "answer": np.ones(60_000)})  # 29 GB
        assert large.points == 0 and "the answer cannot be read: MemoryError" in large.message
        process = judge.process
        wrong = judge.mark(greedy, part, {"error": None, "answer": torch.ones(5)})
        assert wrong.message == "double: another product" and judge.process is process
        died = judge.mark(greedy, part, {"error": None, "answer": "die"})
        assert died.points == 0 and "cannot be judged" in died.message
        monkeypatch.setattr(bounded, "SECONDS", 0.5)
        slow = judge.mark(greedy, part, {"error": None, "answer": "sleep"})
        assert slow.points == 0 and "longer than 0.5 seconds" in slow.message
    assert memory() < before + 100 * 2**20


def memory():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_judge_has_the_questions_that_the_submission_was_asked(tiny):
    """Drawn again from the same key, in another process: the same numbers, and the same marks."""
    part = tiny["tiny"].parts[0]
    with BoundedJudge() as judge:
        answer = {"y": tiny["tiny"].constants["FACTOR"] * part.given["x"]}
        right = judge.mark(tiny["tiny"], part, {"error": None, "answer": answer})
        failed = judge.mark(tiny["tiny"], part, {"error": "ZeroDivisionError", "answer": None})
        assert (right.message, failed.message) == ("right", "ZeroDivisionError")
        tiny["tiny"].path.write_text(json.dumps(submissions.source_notebook()) + " ")
        tiny["tiny"].digest += "0"
        with pytest.raises(RuntimeError, match="changed while its submissions were graded"):
            judge.mark(tiny["tiny"], part, {"error": None, "answer": answer})


def test_an_interrupted_judge_is_not_waited_for(greedy):
    part = next(part for part in greedy.parts if part.name == "test-scale")
    with BoundedJudge() as judge:
        judge.stop.set()
        start = time.monotonic()
        with pytest.raises(Stopped):
            judge.mark(greedy, part, {"error": None, "answer": "sleep"})
    assert time.monotonic() - start < 5


DAMAGE = [
    ("", None),
    ("{", None),
    ("[]", None),
    ("digest", 5),
    ("student", None),
    ("student", ["a"]),
    ("score", "3"),
    ("score", True),
    ("score", float("nan")),
    ("marks", {}),
    ("marks", [{"part": "p"}]),
    ("marks", [None]),
    ("notes", None),
    ("notes", [1]),
    ("notes", "x"),
    ("written", []),
    ("written", {"why": 1}),
    ("status", None),
    ("out_of", None),
    ("late", [[]]),
    ("late", 1),
    ("key", ""),
    ("digest", ""),
]


@pytest.mark.parametrize("field, value", DAMAGE)
def test_a_damaged_result_is_graded_again_and_blocks_nobody(
    tiny, tmp_path, monkeypatch, field, value
):
    graded = []

    def grade(path, *_):
        graded.append(path.parent.name)
        return submissions.result(3)

    monkeypatch.setattr(classroom, "grade_submission", grade)
    out = tmp_path / "out"
    for student in ("a", "b"):
        submissions.hand_in(tmp_path / "in", student, submissions.source_notebook())
    entries = find(tmp_path / "in", tiny)
    grade_all(entries, tiny, out)
    kept = out / "tiny" / "a.json"
    whole = json.loads(kept.read_text())
    kept.write_text(json.dumps(whole | {field: value}) if field.isalpha() else field)
    rows = kept_results(tiny, out)  # of a folder that is not graded now
    assert rows["b", "tiny"] == submissions.result(3, file="tiny.ipynb")
    assert rows["a", "tiny"].score is None and rows["a", "tiny"].notes == [DAMAGED]
    graded.clear()
    assert grade_all(entries, tiny, out)["a", "tiny"] == submissions.result(3, file="tiny.ipynb")
    assert graded == ["a"] and json.loads(kept.read_text()) == whole | {
        "seconds": json.loads(kept.read_text())["seconds"]
    }


def test_a_folder_that_begins_with_a_dot_is_somebodys(tiny, tmp_path):
    for student in (".ada", "..bo", "...", ".git", ".ipynb_checkpoints", "__MACOSX", "._ada"):
        submissions.hand_in(tmp_path / "in", student, submissions.source_notebook())
    (tmp_path / "in" / ".DS_Store").write_text("x")
    (tmp_path / "in" / ".empty").mkdir()
    found = find(tmp_path / "in", tiny)
    assert sorted(entry.student for entry in found) == ["...", "..bo", ".ada", ".empty"]
    assert [entry.path for entry in found if entry.student == ".empty"] == [None]


def command(*words, **environment):
    said = CliRunner().invoke(cli.app, [str(word) for word in words], env=environment)
    lines = said.output.splitlines()
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    return said.exit_code, lines[-1] if lines else ""


@pytest.mark.parametrize("text", [b"", b" \n", b"\xff\xfe"])
def test_an_empty_key_is_no_key(tiny, tmp_path, text):
    key = tmp_path / "course.key"
    key.write_bytes(text)
    (tmp_path / "in").mkdir()
    words = ["grade", tmp_path / "in", "--source", tmp_path / "source", "--key-file", key]
    status, said = command(*words, "--out", tmp_path / "out")
    assert status == 2 and f"{key}: expected a course key" in said
    assert not (tmp_path / "out").exists()
    key.write_text("key")
    status, said = command(*words, "--out", tmp_path / "out", "--key", "")
    assert status == 0, said


def test_what_is_no_file_or_no_folder_is_said_in_a_line(tiny, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "file").write_text("")
    words = ["grade", tmp_path / "in", "--source", tmp_path / "source"]
    key = ["--key", "key"]
    for more, name in (
        ([*key, "--roster", tmp_path / "nobody.csv"], "nobody.csv"),
        ([*key, "--roster", tmp_path / "in"], "--roster"),
        ([*key, "--roster", "/dev/null"], "/dev/null: expected a roster"),
        ([*key, "--out", tmp_path / "file"], "--out"),
        ([*key, "--out", tmp_path / "file" / "below"], "below"),
        (["--key-file", tmp_path / "in"], "--key-file"),
        ([*key, "--source", tmp_path / "in"], "expected source notebooks"),
        ([*key, "--source", tmp_path / "nowhere"], "expected source notebooks"),
        ([*key, "--jobs", "0"], "--jobs"),
        ([*key, "--jobs", "x"], "--jobs"),
        ([*key, "--assignment", "other"], "expected an assignment of tiny, got other"),
        ([*key, "--unknown"], "--unknown"),
    ):
        status, said = command(*words, *more)
        assert status == 2 and said.startswith("minildm-grade: ") and name in said, (more, said)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "{}",
        '{"cells": []}',
        '{"cells": 5, "metadata": {}}',
        '{"cells": [5], "metadata": {}}',
        '{"cells": [], "metadata": {"minildm": {"limits": {"seconds": "x"}}}}',
        '{"cells": [], "metadata": {"minildm": {"limits": 5}}}',
        '{"cells": [{"cell_type": "code", "metadata": 3, "source": 7}], "metadata": {}}',
    ],
)
def test_a_source_that_is_no_assignment_is_said_in_a_line(tmp_path, text):
    (tmp_path / "tiny.ipynb").write_text(text)
    status, said = command("grade", tmp_path, "--source", tmp_path, "--key", "key")
    assert status == 2 and "tiny.ipynb: expected" in said, said


def heed_ctrl_c():
    """Even where the tests run in a shell's background, whose programs ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_is_answered_at_once_and_says_how_much_is_kept(tiny, tmp_path):
    """With a submission running that takes its time."""
    slow = submissions.source_notebook()
    slow["cells"].insert(1, submissions.cell("import time; time.sleep(40)"))
    for student in ("a", "b"):
        submissions.hand_in(tmp_path / "in", student, slow)
    words = ["grade", tmp_path / "in", "--source", tmp_path / "source", "--key", "key"]
    words += ["--out", tmp_path / "out", "--jobs", "1", "--accept-missing-bounds"]
    main = "from minildm.grading.cli import app; app(prog_name='minildm-grade')"
    process = subprocess.Popen(
        [sys.executable, "-c", main, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )
    until = time.monotonic() + 60
    while time.monotonic() < until and not (tmp_path / "out").is_dir():
        time.sleep(0.1)
    time.sleep(3)
    os.killpg(process.pid, signal.SIGINT)
    start = time.monotonic()
    _, told = process.communicate(timeout=60)
    assert time.monotonic() - start < 5 and process.returncode == 130, told
    assert told.decode().splitlines()[-1] == (
        f"minildm-grade: interrupted: 0 of 2 submissions are graded, and kept in "
        f"{tmp_path / 'out'}; the same command goes on from there"
    )
    assert list((tmp_path / "out").rglob("*.json")) == []


def test_what_a_submission_is_graded_with_is_shared_by_a_class(tiny, tmp_path, monkeypatch):
    """One process judges for all, and ends with them."""
    judges = []

    def graded(path, assignment, slot, namespaces, judge):
        judges.append(judge)
        return submissions.result(3)

    monkeypatch.setattr(classroom, "grade_submission", graded)
    path = submissions.hand_in(tmp_path, "a", submissions.source_notebook())
    entries = [Entry(student, "tiny", path, []) for student in "abc"]
    grade_all(entries, tiny, tmp_path / "out")
    assert len({id(judge) for judge in judges}) == 1 and judges[0].process is None
