"""A class of hostile and hapless submissions, graded beside honest ones: none harms another, each
gets its due.

Every expected grade is to the point, and every row says what happened.
"""

import copy
import json
import os
import pickle
import time
from functools import cache
from pathlib import Path

import pytest
import submissions

from minildm.grading import (
    export,
    find_submissions,
    grade_all,
    grade_submission,
    load_assignments,
    read_table,
    student_version,
)
from minildm.grading.sandbox.session import missing_bounds

KEY = "a key that no submission knows"
SCALE, TOTAL = "def scale(x):\n    return FACTOR * x", "def total(x):\n    return x.sum()"
RIGHT = {"scale": SCALE, "total": TOTAL}


def breaking(code: str) -> dict[str, str]:
    """The first part right, the second one's cell hostile: the honest part keeps its points."""
    return {"scale": SCALE, "total": code}


def asked(body: str) -> dict[str, str]:
    """Right until it is asked."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return breaking(f"def total(x):\n{lines}")


# What a student writes in the cells, the points that it is worth, and what the row must say.
WRITTEN = {
    "full": (RIGHT, 8, ""),
    "half": ({"scale": SCALE, "total": "def total(x):\n    return x.mean()"}, 3, ""),
    "empty": ({}, 0, "nothing filled in"),
    "typo": (breaking("def total(x:\n    return x.sum()"), 3, "SyntaxError"),
    "loop": (breaking("while True:\n    pass"), 3, "took longer"),
    "stubborn-loop": (
        asked("while True:\n    try:\n        while True: pass\n    except BaseException: pass"),
        3,
        "took longer",
    ),
    "deaf-loop": (
        breaking(
            "import signal\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGPROF})\n"
            "while True: pass"
        ),
        3,
        "could not be interrupted",
    ),
    "sleeper": (breaking("import time\ntime.sleep(1000)"), 3, "took longer"),
    "memory": (breaking("hog = [bytearray(1 << 28) for _ in range(1000)]"), 3, "MemoryError"),
    "shared-memory": (
        breaking(
            "import mmap\nm = mmap.mmap(-1, 700 << 20)\n"
            "for i in range(70): m.write(bytes(10 << 20))"
        ),
        3,
        "memory",
    ),
    "fork-bomb": (
        breaking("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"),
        3,
        "cell 7",
    ),
    "exit": (breaking("import os\nos._exit(0)"), 3, "exit status 0"),
    "exit-when-asked": (asked("import os; os._exit(3)"), 3, "exit status 3"),
    "exit-with-no-signal": (breaking("import os\nos._exit(255)"), 3, "exit status 255"),
    "sys-exit": (breaking("raise SystemExit"), 3, "SystemExit"),
    "segfault": (breaking("import ctypes\nctypes.string_at(0)"), 3, "SIGSEGV"),
    "kills": (breaking("import os, signal\nos.kill(0, signal.SIGKILL)"), 3, "SIGKILL"),
    "prints": (RIGHT | {"total": f"{TOTAL}\nfor _ in range(100): print('x' * (1 << 20))"}, 8, ""),
    "fills-the-disk": (
        breaking(
            "import itertools\n"
            "for i in itertools.count():\n    open(f'f{i}', 'wb').write(bytes(1 << 20))"
        ),
        3,
        "OSError",
    ),
    "answers-a-pickle": (asked("import pickle; return pickle.dumps(x)"), 3, "got bytes"),
    "answers-an-object": (asked("return object()"), 3, "got object"),
    "answers-too-much": (asked("return np.zeros(1 << 23)"), 3, "too large"),
    "talks-over": (
        breaking(
            "import os\nfor i in range(3, 30):\n"
            "    try: os.write(i, b'{\"id\": [}\\n' * 9)\n    except OSError: pass"
        ),
        3,
        "unreadable",
    ),
    "patches": (
        breaking(
            "import builtins, json, numpy.testing\n"
            "np.testing.assert_allclose = np.allclose = np.isclose = lambda *_, **__: True\n"
            "import minildm.grading.judging as j, minildm.grading.grade as g\n"
            "j.same = j.check = lambda *_, **__: None\ng.mark_part = lambda *_: 5\n"
            "class Any:\n    __eq__ = lambda *_: True\n"
            "def total(x): return Any()"
        ),
        3,
        "imports what it was to write?",
    ),
    "half-characters": (asked("raise ValueError('\\ud83d \\x1b[2J')"), 3, "\\ud83d \\x1b[2J"),
    "answers-with-small-change": (
        breaking(
            "import os\nfor i in range(3, 30):\n    bomb = b'[' + b'[],' * (8 << 20) + b'0]\\n'\n"
            "    try:\n        while bomb: bomb = bomb[os.write(i, bomb) :]\n"
            "    except OSError: pass"
        ),
        3,
        "unreadable",
    ),
    "floods": (
        breaking(
            "import os\nfor i in range(3, 30):\n"
            "    try:\n        while os.fstat(i).st_mode & 0o10000: os.write(i, b'0\\n' * 9999)\n"
            "    except OSError: pass"
        ),
        3,
        "wrote without end",
    ),
    "patches-the-wire": (
        {
            "scale": SCALE,
            "total": "import minildm.grading.sandbox.wire as w\n"
            "w.encode = lambda value: {'array': [1]}",
        },
        0,
        "unreadable",
    ),
    "a-child-that-talks": (
        breaking(
            "import os, signal, time\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\n"
            "if os.fork() == 0:\n    os.setsid()\n"
            "    while True:\n        for i in range(3, 30):\n"
            '            try: os.write(i, b\'{"answer": 8, "error": null}\\n\')\n'
            "            except OSError: pass\n"
            "        time.sleep(0.01)"
        ),
        3,
        "defines no `total`",
    ),
    "recursion": (
        asked("x = []\nfor _ in range(10**6): x = [x]\nreturn repr(x)"),
        3,
        "RecursionError",
    ),
    "raises-its-limits": (
        breaking("import resource as r\nr.setrlimit(r.RLIMIT_DATA, (-1, -1))"),
        3,
        "not allowed to raise",
    ),
    "without-descriptors": (breaking("import os\nos.closerange(0, 256)"), 3, "ended by itself"),
    "html": (asked("raise ValueError('<script>alert(1)</script>')"), 3, ""),
    "magics": ({"scale": f"%matplotlib inline\n{SCALE}", "total": f"%%time\n{TOTAL}\n"}, 8, ""),
}


def changed(released: dict) -> dict[str, tuple[dict | str | bytes, float | None, str]]:
    """Notebooks damaged as files: what is handed in, the points (None: a person must look), the
    row's words."""
    right = submissions.filled_in(released, **RIGHT)

    def without(*names):
        made = copy.deepcopy(right)
        made["cells"] = [
            c
            for c in made["cells"]
            if c["metadata"].get("nbgrader", {}).get("grade_id") not in names
        ]
        return made

    bare = copy.deepcopy(right)
    renamed = copy.deepcopy(right)
    for cell in bare["cells"]:
        cell["metadata"] = {}
    for cell in renamed["cells"]:
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"]["grade_id"] += "-mine"
    twice = copy.deepcopy(right)
    twice["cells"] += [
        submissions.cell("def total(x):\n    return 0 * x.sum()", "total", solution=True)
    ]
    edited = submissions.filled_in(right, **{"test-total": "assert True", "setup": "FACTOR = 0"})
    edited["cells"][6]["source"] = "def total(x):\n    return 0.0"
    long = submissions.filled_in(right, total=TOTAL + "\n# " + "x" * (100 << 20))
    widgets = right | {"metadata": right["metadata"] | {"widgets": {"state": "x" * (20 << 20)}}}
    printed = copy.deepcopy(right)
    printed["cells"][3]["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": "x" * (100 << 20)}
    ]
    return {
        "bare": (bare, 8, "no cell has nbgrader's metadata"),
        "renamed": (renamed, 8, "no cell has nbgrader's metadata"),
        "deleted-test": (without("test-total"), 8, "deleted or renamed: test-total"),
        "deleted-solution": (without("total"), 3, "deleted or renamed: total"),
        "deleted-setup": (without("setup"), 8, "deleted or renamed: setup"),
        "twice": (twice, 3, "stand twice, both run: total"),
        "edited-tests": (edited, 3, "the tests of test-total were edited"),
        "large-output": (printed, 8, ""),
        "large-widgets": (widgets, 8, ""),
        "large-code": (long, None, "hold 100 MB of text, more than 4"),
        "wrong-kernel": (
            right | {"metadata": {"kernelspec": {"name": "ir", "language": "R"}}},
            None,
            "not Python",
        ),
        "half-written": (submissions.filled_in(right, why="\ud800 \x00 =1+1"), 8, ""),
        "odd-kernel": (
            right | {"metadata": {"kernelspec": {"name": "my-conda", "language": "python"}}},
            8,
            "",
        ),
        "broken-json": (json.dumps(right)[:-40], None, "no readable notebook"),
        "no-notebook": ('{"cells": 3}', None, "JSON but no notebook"),
        "deep-json": ("[" * 200_000, None, "no readable notebook"),
        "pickled": (pickle.dumps(right), None, "it is a pickle"),
    }


def is_small_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 30


@cache
def missing() -> dict[str, str]:
    return missing_bounds()


@pytest.fixture(scope="module")
def classroom(tmp_path_factory):
    """Everybody's result, and what was expected of it."""
    folder = tmp_path_factory.mktemp("class")
    source, handed_in, out = folder / "source", folder / "submitted", folder / "out"
    source.mkdir()
    (source / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    secret = folder / "secret.txt"
    secret.write_text(KEY)
    os.chmod(folder, 0o755)
    assignments = load_assignments(source, KEY)
    released = json.loads(json.dumps(student_version(assignments["tiny"])))
    expected: dict[str, tuple[float | None, str]] = {}
    for student, (cells, points, words) in WRITTEN.items():
        submissions.hand_in(handed_in, student, submissions.filled_in(released, **cells))
        expected[student] = points, words
    for student, (content, points, words) in changed(released).items():
        submissions.hand_in(handed_in, student, content)
        expected[student] = points, words
    if "files" not in missing():  # where nothing bounds these, they would do what they try
        for student, code in reaching(folder).items():
            content = submissions.filled_in(released, scale=SCALE, total=code)
            submissions.hand_in(handed_in, student, content)
            expected[student] = 3, ""
    (handed_in / "linked").mkdir()
    (handed_in / "linked" / "tiny.ipynb").symlink_to(secret)
    expected["linked"] = None, "is a link"
    (handed_in / "linked-folder").symlink_to(handed_in / "full")
    expected["linked-folder"] = None, "no notebook was handed in, but linked-folder"
    (handed_in / "pipe").mkdir()
    os.mkfifo(handed_in / "pipe" / "tiny.ipynb")
    expected["pipe"] = None, "is not a file"
    with submissions.hand_in(handed_in, "endless", "").open("wb") as file:
        file.truncate(1 << 40)
    expected["endless"] = None, "has 1048576 MB"
    (handed_in / "wrong-file").mkdir()
    (handed_in / "wrong-file" / "tiny.pdf").write_text("%PDF")
    expected["wrong-file"] = None, "no notebook was handed in, but tiny.pdf"
    before = {path: path.read_bytes() for path in folder.rglob("*") if is_small_file(path)}
    found = find_submissions(handed_in, assignments)
    results = {
        student: result
        for (student, _), result in grade_all(found, assignments, out, jobs=4).items()
    }
    found = {"expected": expected, "results": results, "before": before, "folder": folder}
    return found | {"assignments": assignments, "out": out}


def reaching(folder: Path) -> dict[str, str]:
    """Cells that reach out of the cage; `total` is right only if they get there."""
    escaped = "\n\ndef total(x):\n    return x.sum()"
    victim = folder / "submitted" / "full" / "tiny.ipynb"
    tests = folder / "source" / "tiny.ipynb"
    return {
        "reads-the-tests": f"text = open({str(tests)!r}).read(){escaped}",
        "reads-others": f"text = open({str(victim)!r}).read(){escaped}",
        "reads-the-key": (
            "import glob\nfiles = glob.glob('/proc/*/environ') + glob.glob('/proc/*/cmdline')\n"
            "texts = [open(file, 'rb').read() for file in files]\n"
            f"assert any({KEY[:9]!r}.encode() in t for t in texts){escaped}"
        ),
        "writes-outside": f"open({str(folder / 'mine')!r}, 'w').write('I was here'){escaped}",
        "deletes": f"import os\nos.remove({str(victim)!r}){escaped}",
        "deletes-the-package": (
            f"import minildm, shutil\nshutil.rmtree(minildm.__path__[0]){escaped}"
        ),
        "network": f"import socket\nsocket.create_connection(('127.0.0.1', 22), 2){escaped}",
        "kills-the-grader": (
            "import os, signal\npids = [int(p) for p in os.listdir('/proc') if p.isdigit()]\n"
            f"assert [os.kill(p, 0) for p in pids if p > 2 and p != os.getpid()]{escaped}"
        ),
        "leaves-a-process": (
            "import subprocess, sys\n"
            "sleep = [sys.executable, '-c', 'import time; time.sleep(987)']\n"
            "subprocess.Popen(sleep, start_new_session=True)\n"
            "raise RuntimeError('it stays')"
        ),
        "hides-memory": f"import os\nos.memfd_create('x'){escaped}",
        "looks-into-process-1": (
            "import ctypes\nlibc = ctypes.CDLL(None)\n"
            "try: text = open('/proc/1/environ').read()\n"
            "except OSError: assert libc.ptrace(16, 1, 0, 0) == 0" + escaped
        ),
        "escapes": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10020000) == 0\n" + escaped,
    }


def test_at_least_fifteen_are_hostile(classroom):
    assert len(classroom["expected"]) >= 15 + 3
    assert set(classroom["results"]) == set(classroom["expected"])


def test_every_grade_is_right_to_the_point(classroom):
    got = {student: result.score for student, result in classroom["results"].items()}
    wanted = {student: points for student, (points, _) in classroom["expected"].items()}
    assert got == wanted, {s: classroom["results"][s] for s in got if got[s] != wanted[s]}


def test_every_row_says_what_happened(classroom):
    silent = {}
    for student, (_, words) in classroom["expected"].items():
        result = classroom["results"][student]
        said = [*result.notes, *(mark.message for mark in result.marks)]
        if words not in "; ".join(said) or not all(said) or not (result.notes or result.score):
            silent[student] = words, said
    assert not silent


def test_no_submission_keeps_the_tables_from_being_written(classroom):
    results = {(student, "tiny"): result for student, result in classroom["results"].items()}
    export(results, classroom["assignments"], classroom["out"], [])
    assert {row["student"] for row in read_table(classroom["out"] / "grades.csv")} == set(
        classroom["expected"]
    )
    (answer,) = (
        row
        for row in read_table(classroom["out"] / "written.csv")
        if row["student"] == "half-written"
    )
    assert answer["answer"] == "\\ud800 \\x00 =1+1"


def test_many_sleepers_together_are_not_patient(tmp_path):
    (tmp_path / "tiny.ipynb").write_text(json.dumps(submissions.source_notebook()))
    assignment = load_assignments(tmp_path, KEY)["tiny"]
    assignment.limits = assignment.limits._replace(seconds=3)
    notebook = submissions.filled_in(json.loads(json.dumps(student_version(assignment))), **RIGHT)
    notebook["cells"] += [submissions.cell("import time\ntime.sleep(1000)") for _ in range(50)]
    start = time.monotonic()
    result = grade_submission(submissions.hand_in(tmp_path, "sleepers", notebook), assignment)
    assert time.monotonic() - start < 60  # 50 times 12 otherwise
    assert result.score == 8  # what was defined before is asked all the same
    assert "the cells took longer than allowed" in "; ".join(result.notes)


def test_nothing_was_written_changed_or_deleted(classroom):
    folder = classroom["folder"]
    for path, content in classroom["before"].items():
        assert path.read_bytes() == content, path
    new = {p for p in folder.rglob("*") if is_small_file(p)} - set(classroom["before"])
    assert {p.relative_to(folder).parts[0] for p in new} <= {"out"}


def test_no_process_is_left(classroom):
    if missing():
        pytest.skip(f"this machine cannot bound {', '.join(missing())}")
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert b"time.sleep(987)" not in entry.read_bytes()
        except OSError:
            pass


def test_what_the_machine_cannot_bound_is_named():
    found = missing_bounds(namespaces=False)
    assert set(found) >= {"network", "files", "processes"}
    assert os.getuid() == 0 or "user" in found
