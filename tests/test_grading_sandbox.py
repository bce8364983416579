"""The part to audit: what it imports, and that whatever a stranger sends is refused or harmless."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from minildm.grading import sandbox
from minildm.grading.sandbox import session as grader
from minildm.grading.sandbox.session import Died, Limits, Session, missing_bounds, seconds_of
from minildm.grading.sandbox.wire import decode, encode

FOLDER = Path(str(sandbox.__file__)).parent
ORDER = re.findall(r"^    (\w+)", str(sandbox.__doc__), re.MULTILINE)


def imports(file: Path) -> set[str]:
    """All that a file imports, by its whole name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_its_docstring_says_in_which_order_to_read_it():
    assert sorted(ORDER) == sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


@pytest.mark.parametrize("name", ORDER)
def test_it_imports_nothing_else_of_the_package_and_a_file_only_those_before_it(name):
    above = ORDER[: ORDER.index(name)]
    for imported in imports(FOLDER / f"{name}.py"):
        if imported.startswith("minildm"):
            file = imported.removeprefix("minildm.grading.sandbox.").partition(".")[0]
            assert file in above, imported
        else:
            others = {"wire": {"numpy", "torch"}, "runner": {"IPython"}}
            allowed = sys.stdlib_module_names | others.get(name, set())
            assert imported.partition(".")[0] in allowed, imported


def test_numbers_texts_lists_and_arrays_come_back_as_they_were_sent():
    sent = {"a": [1, 2.5, "three", None, True], "b": {"c": np.arange(6.0).reshape(2, 3)}}
    got = decode(encode(sent))
    assert got["a"] == sent["a"] and np.array_equal(got["b"]["c"], sent["b"]["c"])
    for dtype in (torch.float32, torch.float16, torch.int64, torch.bool):
        tensor = torch.tensor([[0, 1], [1, 1]], dtype=dtype)
        assert torch.equal(decode(encode(tensor)), tensor) and decode(encode(tensor)).dtype == dtype


@pytest.mark.parametrize(
    "sent",
    [
        {"array": 1},
        {"array": [1]},
        {"array": ["numpy", "object", [1], ""]},
        {"array": ["numpy", ["float32"], [0], ""]},
        {"array": [["numpy"], "float32", [0], ""]},
        {"array": ["numpy", "float32", [0], 3]},
        {"array": ["numpy", "float32", [2], "AAAA"]},
        {"array": ["numpy", "float32", [-1], ""]},
        {"array": ["numpy", "float32", [True], "AAAAAA=="]},
        {"array": ["numpy", "float32", [1] * 17, "AAAAAA=="]},
        {"array": ["numpy", "float32", [1], "not base64"]},
        {"dict": [1]},
        {"set": [1]},
        {"a": 1, "dict": {}},
    ],
    ids=str,
)
def test_what_encode_does_not_write_is_a_value_error(sent):
    with pytest.raises(ValueError):
        decode([{"dict": {"x": sent}}])


@pytest.mark.parametrize("status", [3, 200, 255])
def test_a_process_that_ends_says_with_which_status(status):
    with Session(Limits(seconds=20)) as session:
        with pytest.raises(Died, match=rf"its process ended by itself \(exit status {status}\)"):
            session.request("cell 1", 10, cell=f"import os\nos._exit({status})")


def answers(session: Session, cells: list[str]) -> list[str | None]:
    """Each cell's error, with seconds enough for each by itself."""
    return [session.request(f"cell {n}", 20, cell=cell)["error"] for n, cell in enumerate(cells)]


BURN = "import time\nend = time.process_time() + 1.2\nwhile time.process_time() < end: pass"
BURN_IN_A_CHILD = f"import os\nif os.fork() == 0:\n    exec({BURN!r})\n    os._exit(0)\nos.wait()"


@pytest.mark.parametrize("cell", [BURN, BURN_IN_A_CHILD], ids=["itself", "its-children"])
def test_processor_time_is_that_of_all_cells_together(cell):
    """Four cells of 1.2 s, each far below its own 20 seconds, in a submission that has 3."""
    with Session(Limits(seconds=3)) as session:
        first, second, third, fourth = answers(session, [cell, cell, BURN, BURN])
    assert first is None and second is None
    assert "OutOfTime" not in third and "took longer" in third and "took longer" in fourth


def test_what_starting_takes_is_not_the_submissions_time(monkeypatch):
    monkeypatch.setattr(grader, "seconds_of", lambda pid: 100 + seconds_of(pid))
    with Session(Limits(seconds=2)) as session:
        assert answers(session, [BURN]) == [None]


def test_memory_is_that_of_all_cells_and_processes_together():
    keep = "import os, time\nif os.fork() == 0:\n    kept = b'x' * (150 << 20)\n    time.sleep(60)"
    with Session(Limits(seconds=20, memory_mb=400)) as session:
        assert answers(session, [keep, "import time; time.sleep(0.5)"]) == [None, None]
        with pytest.raises(Died, match="more than 400 MB"):
            answers(session, [keep, keep, "import time; time.sleep(5)"])
    with Session(Limits(seconds=20, memory_mb=400)) as session:
        errors = answers(session, [f"kept_{n} = bytearray(150 << 20)" for n in range(3)])
    assert errors[0] is None and errors[2] is not None and "MemoryError" in errors[2]


def test_the_disk_is_for_all_cells_together():
    if "files" in missing_bounds():
        pytest.skip("this machine cannot bound files")
    write = "open('file-{}', 'wb').write(bytes(3 << 20))"
    with Session(Limits(seconds=20, disk_mb=8)) as session:
        errors = answers(session, [write.format(n) for n in range(3)])
    assert errors[:2] == [None, None] and errors[2] is not None and "No space left" in errors[2]


def test_lines_of_replies_are_counted_over_all_cells(monkeypatch):
    monkeypatch.setattr(grader, "MOST_LINES", 1000)
    write = (
        "import os\nfor i in range(3, 30):\n"
        "    try: os.write(i, b'0\\n' * 600)\n    except OSError: pass"
    )
    with Session(Limits(seconds=20)) as session:
        assert answers(session, [write]) == [None]
        with pytest.raises(Died, match="wrote without end"):
            answers(session, [write])


# In a container whose root is an ordinary user outside, who is alone there: what is bounded, who
# the submission is, which rights it has, and whether it can write what it may only read.
ALONE = """
import json, os
from minildm.grading.sandbox.session import Limits, Session, missing_bounds

CELL = '''
import ctypes, os, numpy
libc, where = ctypes.CDLL(None), os.path.dirname(numpy.__file__)
remounted = libc.mount(None, where.encode(), None, 32 | 4096, None)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
writes = os.access(where, os.W_OK)
raise ValueError(f"{os.getuid() > 0} {int(status['CapEff'], 16)} {remounted} {writes}")
'''
with Session(Limits(seconds=20)) as session:
    error = session.request("cell", 20, cell=CELL)["error"]
print(json.dumps([open("/proc/self/uid_map").read().split(), list(missing_bounds()), error]))
"""


def alone(before: str = "") -> list:
    """What ALONE prints where root is the only user, after a line of shell."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-Ur", "true"]).returncode:
        pytest.skip("this machine has no user namespaces")
    root = str(Path(__file__).parents[1])
    start = f'{before}\ncd {root} && exec "$0" -c "$1"'
    words = ["unshare", "-Ur", "sh", "-c", start, sys.executable, ALONE]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_where_root_is_the_only_user_a_submission_is_somebody_without_rights():
    users, missing, error = alone()
    assert users[2] == "1" and error == "ValueError: True 0 -1 False"
    assert missing == list(missing_bounds())


def test_where_nothing_can_be_separated_that_is_said_and_a_submission_runs_all_the_same():
    users, missing, error = alone("echo 0 > /proc/sys/user/max_user_namespaces")
    assert users[2] == "1" and error.startswith("ValueError: False ")
    assert missing[:4] == ["network", "files", "processes", "user"]


def test_where_no_file_system_can_be_built_that_is_said_and_a_submission_runs_all_the_same(
    tmp_path, monkeypatch
):
    link = tmp_path / "link"
    link.symlink_to("/usr")
    monkeypatch.setattr(
        grader, "readable_paths", lambda: [str(link)] * 2
    )  # it cannot be made twice
    with Session(Limits(seconds=20)) as session:
        assert "files" not in session.bounds
        assert answers(session, ["open('mine', 'w').write('x')"]) == [None]
