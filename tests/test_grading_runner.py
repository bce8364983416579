"""A submission's cells run as in IPython: its whole syntax, a top-level `await`, and the names of
cells that only show something."""

import json
from types import ModuleType

import pytest
import submissions

from minildm.grading import grade_submission, load_assignments, student_version
from minildm.grading.sandbox.runner import NoShell, as_python, perform

HELP = "def double(x):\n    return 2 * x  # enough?"


def step(**request) -> dict:
    return {"name": "cell 1", "seconds": 20, "clock": 60} | request


def run(*cells: str, **request) -> dict:
    """What the cells define; an error is raised."""
    module = ModuleType("submission")
    shell = NoShell(vars(module))
    vars(module).update(get_ipython=lambda: shell, seen=[])
    for each in [*({"cell": cell} for cell in cells), *([request] if request else [])]:
        reply = perform(step(**each), module)
        assert reply["error"] is None, reply["error"]
    return vars(module)


@pytest.mark.parametrize(
    "cell",
    [
        f"%matplotlib inline\n{HELP}",
        f"{HELP}\n%timeit double(3)",
        f"{HELP}\ndouble?",
        f"{HELP}\n??double",
        f"{HELP}\nhelp_me = double(2)  # is it 4?\n!ls -l",
        f"files = !ls\n{HELP}\nassert files == []",
        f"%%time\n{HELP}",
        f"%%time\n%matplotlib inline\n{HELP}",
        f"\n\n%%capture out\n{HELP}",
        f"%%prun -l 3\n{HELP}",
        ">>> import math\n>>> def double(x):\n...     return 2 * x  # or?",
        "def double(x):\n    %matplotlib inline\n    return 2 * x  # enough?",
        "def double(x):\n    text = '''\n%no magic?\n'''\n    return 2 * x\n!true",
        "def double(x):\n    return (\n        2\n        % 3 * x\n    )\n%pwd",
        "%time double = lambda x: 2 * x",
        f"import asyncio\nawait asyncio.sleep(0)\n{HELP}",
        f"%matplotlib inline\nimport asyncio\nasync with asyncio.Lock():\n    pass\n{HELP}",
        "    # all of it indented\n    def double(x):\n        return 2 * x",
    ],
)
def test_every_form_of_ipythons_syntax_leaves_a_students_python_alone(cell):
    assert run(cell)["double"](3.5) == 7


def test_magics_give_what_ipython_gives():
    names = run("%time y = 3", "z = %time y + 1", "w = %pwd", "%%capture out\ny = 5", "out.show()")
    assert (names["y"], names["z"], names["w"]) == (5, 4, None)
    assert "x" not in run("%%bash\nx=3", "%%writefile x.py\nx = 3", "%%html\n<b>x = 3</b>")


def test_what_is_python_already_is_not_touched():
    for cell in (HELP, "x = 'a?'\n", "# ?\n", "y = 1 \\\n % 2\n", "await f()\n"):
        assert as_python(cell) is cell


def test_an_error_in_a_cell_with_a_magic_names_the_students_line():
    module = ModuleType("submission")
    vars(module).update(get_ipython=lambda: NoShell(vars(module)))
    for cell in ("%pwd\n\nx = 1 / 0", "%%time\n\nx = 1 / 0"):
        error = perform(step(cell=cell), module)["error"]
        assert error == "ZeroDivisionError: division by zero (line 3 of cell 1)"


def test_what_one_cell_starts_another_may_await():
    names = run(
        "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 3",
        "task = asyncio.ensure_future(f())",
        "got = await task",
    )
    assert names["got"] == 3


LOOKS = [
    "import math as m\nimport os.path\nfrom json import dumps as to_text\nseen.append('imports')",
    "curve = [1, 2]\nseen.append('curve')\n\ndef shown(x):\n    return x",
    "curve = 1 / 0",
]


@pytest.mark.parametrize(
    "cell, ran, value",
    [
        ("def f():\n    return m.floor(2.5)", [], 2),
        (
            "class F:\n    def g(self):\n        return to_text([1])\ndef f(): return F().g()",
            [],
            "[1]",
        ),
        ("f = lambda: [len(curve) for _ in range(1)][0]", ["curve"], 2),
        ("def f():\n    %pwd\n    return shown(os.sep)", ["curve"], "/"),
        ("curve = [7]\ndef f():\n    return curve[0]", [], 7),
        ("def f(curve=3):\n    m = 4\n    return m + curve", [], 7),
        ("class F: curve = 5\ndef f():\n    return F.curve", [], 5),
        ("f = lambda: 1\nbroken = lambda: (curve := 1", [], None),
    ],
)
def test_names_of_cells_that_only_show_something_are_there_if_a_function_needs_them(
    cell, ran, value
):
    """Imports alone are run where they do; a cell runs as a whole only for what it makes."""
    module = ModuleType("submission")
    vars(module).update(get_ipython=lambda: NoShell(vars(module)), seen=[])
    perform(step(cell=cell), module)
    assert perform(step(looks=LOOKS, cells=[cell]), module)["error"] is None
    assert vars(module)["seen"] == ran
    if value is not None:
        assert vars(module)["f"]() == value


def test_the_grader_finds_them_in_the_assignment_and_says_nothing_of_it(tmp_path):
    source = submissions.source_notebook()
    look = submissions.cell("import statistics as st\n\nTHREE = 3\nFACTOR = 0")
    look["metadata"]["tags"] = ["look"]
    source["cells"].insert(4, look)
    (tmp_path / "tiny.ipynb").write_text(json.dumps(source))
    tiny = load_assignments(tmp_path, "key")["tiny"]
    released = json.loads(json.dumps(student_version(tiny)))
    scale = "%matplotlib inline\ndef scale(x):\n    return FACTOR * x  # enough?"
    total = "import asyncio\nawait asyncio.sleep(0)\n\n"
    total += "def total(x):\n    return st.fsum(x) if not THREE else x.sum()"
    right = submissions.filled_in(released, scale=scale, total=total)
    result = grade_submission(submissions.hand_in(tmp_path / "in", "ada", right), tiny)
    assert (result.score, result.notes) == (8, [])  # and FACTOR is the course's
    only_imports = submissions.filled_in(
        right, total="def total(x):\n    return st.mean(x) * len(x)"
    )
    result = grade_submission(submissions.hand_in(tmp_path / "in", "bo", only_imports), tiny)
    assert (result.score, result.notes) == (8, [])
