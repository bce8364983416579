"""benchmarks/mutants.py: a planted fault that the tests notice is killed, one that they do not is
listed, and neither is tried twice."""

import pytest
from mutant_runs import Bench, statement
from mutants import (
    NEIGHBOURS,
    PACKAGES,
    ROOT,
    Change,
    Mutant,
    changes_of_calls,
    choose,
    equivalents,
    mutant,
    own_tests,
    table,
)

MODULE = '''"""Twice, and once."""


def twice(x: int | None) -> int:
    return 2 * x


def once(x):
    return 1 * x
'''
LOADED = ["mutant_runs", "nbval.plugin", "hypothesis"]  # without torch, which is not needed
TESTS = """from minildm.diffusion.number import once, twice


def test_twice():
    assert twice(3) == 6


def test_once():
    assert once(0) == 0
"""
FILE = "minildm/diffusion/number.py"


@pytest.fixture
def tree(tmp_path):
    """A project of one module and its tests."""
    for name, text in {
        FILE: MODULE,
        "minildm/__init__.py": "",
        "minildm/diffusion/__init__.py": "",
        "tests/test_number.py": TESTS,
        "tests/test_other.py": "def test_other():\n    pass\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def planted(before: str, after: str) -> Mutant:
    line = MODULE[: MODULE.index(before)].count("\n") + 1
    return Mutant(FILE, line, before, after, MODULE.replace(before, after))


def test_a_survivor_is_reported_and_a_killed_one_is_killed(tree, tmp_path):
    killed = planted("return 2 * x", "return 2 + x")
    endless = planted("return 2 * x", "while True: pass")
    survivor = planted("return 1 * x", "return 7 * x")
    equal = planted("return 1 * x", "return x * 1")
    mutants = [killed, survivor, equal]
    files = [str(path.relative_to(tree)) for path in sorted(tree.rglob("*.py"))]
    bench = Bench(tree, files, tmp_path / "runs", jobs=2, loaded=LOADED)
    tried = []
    bench_run = bench.run

    def run(tree, files, chosen, *more, **words):
        tried.append(chosen)
        return bench_run(tree, files, chosen, *more, **words)

    bench.run = run
    bench.try_all(mutants, lambda file: own_tests(tree, file), lambda file: set())
    results = bench.results()
    assert results[killed.key]["killed"] and results[killed.key]["by"].endswith("::test_twice")
    assert {"tests/test_number.py::test_twice"} in tried  # not the test of another function
    report = "\n".join(table(mutants, results, {(FILE, equal.before, equal.after)}))
    assert f"{FILE}:9: survived" in report and "+ return 7 * x" in report
    assert "2 + x" not in report and "x * 1" not in report
    diffusion = next(line for line in report.splitlines() if line.startswith("diffusion"))
    assert diffusion.split()[1:] == ["1", "2", "50%", "0", "1", "1", "0"]

    tried.clear()
    bench.try_all(mutants, lambda file: own_tests(tree, file), lambda file: set())
    assert tried == []  # all of it is kept
    found = bench.run(bench.trees.get(), ["test_number.py"], None, 0, 0)
    assert found is None  # the time limit
    assert (tree / FILE).read_text() == MODULE
    assert "not tried" in next(table([endless], results, set()))


def test_arguments_and_calls_are_left_out():
    source = "def f(x: int):\n    g(x, axis=1, b=2)\n    return h(a=x)\n"
    made = [mutant("f.py", source, change) for change in changes_of_calls(source)]
    assert {(one.line, one.after) for one in made if one} == {
        (2, "None"),
        (2, "g(x, b=2)"),
        (2, "g(x, axis=1, )"),
        (3, "return h()"),
    }


@pytest.mark.parametrize("text", ["def f(x: str): return x\n", "def f(x): return\n(\n"])
def test_another_annotation_or_no_program_is_no_mutant(text):
    source = "def f(x: int | None): return x\n"
    assert mutant("f.py", source, Change(1, 0, "", lambda: text)) is None
    assert mutant("f.py", source, Change(1, 0, "", lambda: None)) is None


def test_a_statement_is_all_of_its_lines_and_of_a_block_its_head():
    source = (
        "def f(\n    x,\n):\n    if x:\n        y = (\n            x\n        )\n    return y\n"
    )
    assert statement(source, 2) == range(1, 4)
    assert statement(source, 4) == range(4, 5)
    assert statement(source, 6) == range(5, 8)


def test_every_module_has_tests_of_its_own_and_every_named_file_is_there():
    assert set(NEIGHBOURS) == set(PACKAGES)
    for package, names in NEIGHBOURS.items():
        assert [
            name for name in names.split() if not (ROOT / f"tests/test_{name}.py").is_file()
        ] == []
        for path in (ROOT / "minildm" / package).rglob("*.py"):
            assert own_tests(ROOT, str(path.relative_to(ROOT))), path


def test_an_equivalent_mutant_needs_a_reason(tmp_path):
    path = tmp_path / "list.toml"
    entry = "[[equivalent]]\nfile = 'a'\nbefore = 'b'\nafter = 'c'\n"
    path.write_text(entry + "reason = 'd'\n")
    assert equivalents(path) == {("a", "b", "c")}
    path.write_text("[[equivalent]]\nfile = 'a'\nbefore = 'b'\nreason = 'd'\n")
    assert equivalents(path) == {("a", "b", None)}  # whatever becomes of that line
    path.write_text(entry)
    with pytest.raises(ValueError, match="expected a reason for 'b'"):
        equivalents(path)


def test_fewer_mutants_are_some_of_more_and_another_line_changes_none(tree):
    pytest.importorskip("cosmic_ray")
    many = choose(tree, ["diffusion"], 10, seed=0)
    assert choose(tree, ["diffusion"], 1, seed=0) == many[:1]
    assert {one.before for one in many} == {"return 2 * x", "return 1 * x"}  # not `int | None`
    (tree / FILE).write_text(MODULE + "\n\nLATER = 3\n")
    again = choose(tree, ["diffusion"], 10, seed=0)
    assert {(one.before, one.after) for one in again} > {(one.before, one.after) for one in many}
