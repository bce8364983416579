"""How long torch's threads wait awake: what minildm.pth says to everything that is started, by the
report of GNU's own OpenMP, and that it leaves alone what a user has set."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ASKED = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
OURS = {"GOMP_SPINCOUNT": "10000"}
# What the user has set, and what holds then.
USERS = [
    ({}, OURS),
    ({"OMP_NUM_THREADS": "3"}, {**OURS, "OMP_NUM_THREADS": "3"}),
    ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
    ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
]
LIBRARIES = Path(importlib.util.find_spec("torch").origin).parent / "lib"
GNU = sorted(LIBRARIES.glob("libgomp*"))  # none on macOS and Windows, whose torch brings another

# Each way in which we start Python: the options, and what stands first in the program.
STARTS = {
    "an environment's Python, torch first": ([], ""),
    "as the grader starts it": (["-I", "-B"], ""),
    "minildm imported, but not installed": (["-S"], "import minildm; "),
}


def surroundings(**more: str) -> dict[str, str]:
    """The environment of these tests without what is asked for."""
    kept = {key: value for key, value in os.environ.items() if key not in ASKED}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@pytest.mark.parametrize(("users", "expected"), USERS)
@pytest.mark.parametrize("start", STARTS)
def test_what_we_start_waits_as_we_say_unless_the_user_has_said_otherwise(start, users, expected):
    options, first = STARTS[start]
    code = f"{first}import os; print({{k: os.environ[k] for k in {ASKED} if k in os.environ}})"
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, env=surroundings(**users), capture_output=True, text=True)
    assert done.stdout.strip() == str({key: expected[key] for key in ASKED if key in expected})


@pytest.mark.skipif(not GNU, reason="torch brings another OpenMP here")
@pytest.mark.parametrize(
    ("users", "spins"),
    [({}, 10_000), ({"GOMP_SPINCOUNT": "7"}, 7), ({"OMP_WAIT_POLICY": "active"}, 30_000_000_000)],
)
def test_torchs_openmp_reports_that_number_when_it_is_loaded(users, spins):
    code = f"import ctypes; ctypes.CDLL({str(GNU[0])!r})"
    told = surroundings(OMP_DISPLAY_ENV="verbose", **users)
    done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True)
    assert re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr) == [str(spins)]


@pytest.mark.parametrize(("users", "expected"), USERS[::2])
def test_a_kernel_that_jupyter_or_an_editor_starts_has_it_before_its_first_cell(
    tmp_path, users, expected
):
    cell = tmp_path / "cell.py"
    cell.write_text("import os; print(os.environ.get('GOMP_SPINCOUNT'))")
    run = "from jupyter_client.runapp import main; main()"  # `jupyter run`
    command = [sys.executable, "-c", run, "--kernel", "python3", str(cell)]
    done = subprocess.run(command, env=surroundings(**users), capture_output=True, text=True)
    assert done.stdout.strip() == expected["GOMP_SPINCOUNT"]


def test_the_number_is_the_same_wherever_it_stands():
    for file in ("scripts/minildm.pth", "minildm/__init__.py", "docs/setup.md"):
        text = (ROOT / file).read_text()
        assert set(re.findall(r"GOMP_SPINCOUNT\W+(\d+)", text)) == {OURS["GOMP_SPINCOUNT"]}, file
