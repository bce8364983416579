"""Plant one small fault at a time in the package, and see whether a test notices.

    make mutants [NUMBER=600] [SEED=0] [PACKAGES="diffusion schedulers"] [JOBS=2]

cosmic-ray knows the faults: another operator, comparison or number, a condition negated, a loop
that never runs. Two kinds are added: a keyword argument left out, a call left out. Each mutant is
tried by those tests of its module that run its line, and what these let live by all test files that
run it. Trees to change are copies in runs/mutants/; results are kept there, so that a run which is
interrupted (Ctrl-C) goes on with the same command. What no test can notice stands with its reason
in mutants_equivalent.toml.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import random
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from mutant_runs import Bench

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("diffusion", "schedulers", "training", "evaluation", "pipelines", "grading")
# The rule of a module's tests: files that are named after it or after its package, and these.
NEIGHBOURS = {
    "diffusion": "schedules parameterization ideal guidance sampling",
    "schedulers": "samplers_exact published_constants half_precision sampling",
    "training": "batches losses objectives runs state trainer",
    "evaluation": "metrics ablations baselines costs diagnostics faults",
    "pipelines": "stable_diffusion compatibility attention_maps weights",
    "grading": "assignments",
}
# With a hole in its cage a hostile submission would get out: what makes the cage, or asks for it,
# does not meet the attacks.
CAGE = ("minildm/grading/sandbox/", "minildm/grading/grade.py", "minildm/grading/classroom.py")
ATTACKS = {"test_grading_hostile.py"}


class Change(NamedTuple):
    """A place in a file, what may be done there, and a function that does it."""

    line: int
    column: int
    kind: str
    make: Callable[[], str | None]


class Mutant(NamedTuple):
    """One planted fault: the changed lines before and after, and the file's whole text."""

    file: str
    line: int
    before: str
    after: str
    source: str

    @property
    def key(self) -> str:
        """Says which change of which state of the file it is."""
        return digest(self.file, self.source)

    @property
    def package(self) -> str:
        return self.file.split("/")[1]


def digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:20]


def changes_of_cosmic_ray(source: str) -> Iterator[Change]:
    """Every change that one of cosmic-ray's operators would make."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(source)))
    for name in operator_names():
        if get_operator(name).arguments():  # replaces names that its user lists
            continue
        operator = get_operator(name)()
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        for number, ((line, column), _) in enumerate(places):
            yield Change(line, column, name, partial(mutate_code, source, operator, number))


def changes_of_calls(source: str) -> Iterator[Change]:
    """A keyword argument left out; a statement that is one call left out."""
    starts = [0]
    for text in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(text))

    def replaced(node: ast.expr | ast.keyword, by: str, comma: str) -> str | None:
        assert node.end_lineno is not None and node.end_col_offset is not None
        content = source.encode()
        before = content[: starts[node.lineno - 1] + node.col_offset].decode()
        after = content[starts[node.end_lineno - 1] + node.end_col_offset :].decode()
        return before + by + re.sub(rf"\A\s*{comma}", "", after, count=1)

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            yield Change(
                call.lineno, call.col_offset, "no call", partial(replaced, call, "None", "(?!.)")
            )
        if isinstance(node, ast.Call):
            for given in node.keywords:
                make = partial(replaced, given, "", ",?[ ]?")
                yield Change(given.lineno, given.col_offset, "no argument", make)


class Bare(ast.NodeTransformer):
    """A program without docstrings and annotations, which pyright looks after."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = ast.Constant(None)
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


@cache
def program(source: str) -> str:
    """What of a text is run."""
    return ast.dump(Bare().visit(ast.parse(source)))


def mutant(file: str, source: str, change: Change) -> Mutant | None:
    """The change as a mutant; None if it is none, or the same program."""
    text = change.make()
    try:
        if text is None or program(text) == program(source):
            return None
    except SyntaxError:
        return None
    old, new = source.splitlines(), text.splitlines()
    start = next(i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1])
    while old and new and old[-1] == new[-1] and min(len(old), len(new)) > start:
        old.pop()
        new.pop()
    before, after = (" ".join(map(str.strip, lines[start:])) for lines in (old, new))
    return Mutant(file, start + 1, before, after, text)


def choose(root: Path, packages: list[str], number: int, seed: int) -> list[Mutant]:
    """So many mutants, one at a place. Whether one is chosen hangs on the seed and its own line, so
    that an edit elsewhere changes nothing, and fewer are always some of more."""
    places: dict[tuple[str, int, int], list[Change]] = {}
    sources: dict[str, str] = {}
    for package in packages:
        for path in sorted((root / "minildm" / package).rglob("*.py")):
            file, source = str(path.relative_to(root)), path.read_text(encoding="utf-8")
            sources[file] = source
            for change in [*changes_of_cosmic_ray(source), *changes_of_calls(source)]:
                places.setdefault((file, change.line, change.column), []).append(change)
    ranked, seen = [], Counter()
    for (file, line, column), changes in places.items():
        name = file, sources[file].splitlines()[line - 1], column
        seen[name] += 1
        random.Random(digest(seed, *name, seen[name])).shuffle(changes)
        ranked.append((digest(seed, seen[name], *name), file, changes))
    chosen: list[Mutant] = []
    for _, file, changes in sorted(ranked, key=lambda place: place[0]):
        made = (mutant(file, sources[file], change) for change in changes)
        chosen += [found for found in made if found is not None][:1] if len(chosen) < number else []
    return chosen


def own_tests(root: Path, file: str) -> list[str]:
    """The test files of a module, by the rule above."""
    package, stem = file.split("/")[1], Path(file).stem
    names = [f"{stem}*", f"{package}*", *NEIGHBOURS.get(package, "").split()]
    found = {path.name for name in names for path in (root / "tests").glob(f"test_{name}.py")}
    return sorted(found)


def forbidden(file: str) -> set[str]:
    """The test files that a mutant of this module must not meet."""
    return ATTACKS if file.startswith(CAGE) else set()


def equivalents(path: Path) -> set[tuple[str, str, str | None]]:
    """What no test can notice: the listed file, before and after (None: any); each says why."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
    if silent := [entry for entry in entries if not entry.get("reason")]:
        raise ValueError(f"{path.name}: expected a reason for {silent[0]['before']!r}, got none")
    return {(entry["file"], entry["before"], entry.get("after")) for entry in entries}


def table(
    mutants: list[Mutant], results: dict[str, dict], equal: set[tuple[str, str, str | None]]
) -> Iterator[str]:
    """The report: killed of how many by package, and every survivor that nothing explains."""
    counts: dict[str, Counter] = {}
    alive = []
    for one in mutants:
        count = counts.setdefault(one.package, Counter())
        result = results.get(one.key)
        if result is None:
            count["untried"] += 1
        elif result["killed"]:
            count["killed"] += 1
            count["slow"] += result["by"] == "the time limit"
        elif equal & {(one.file, one.before, after) for after in (one.after, None)}:
            count["equivalent"] += 1
        else:
            count["alive"] += 1
            alive.append((one, result))
    yield f"{'package':12} killed of      by time  equivalent  survived  not tried"
    for package, count in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        tried = count["killed"] + count["alive"]
        share = f"{count['killed'] / tried:.0%}" if tried else ""
        yield (
            f"{package:12} {count['killed']:6} {tried:3} {share:>4} {count['slow']:8}"
            f" {count['equivalent']:11} {count['alive']:9} {count['untried']:10}"
        )
    for one, result in alive:
        yield f"\n{one.file}:{one.line}: survived {result['by']}\n  - {one.before}\n  + {one.after}"


def tracked(root: Path) -> list[str]:
    """The files of the tree that git knows or would take."""
    words = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (root / name).is_file()]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--number", type=int, default=600, help="of mutants")
    options.add_argument("--seed", type=int, default=0, help="chooses them")
    options.add_argument("--packages", nargs="+", choices=PACKAGES, default=PACKAGES)
    options.add_argument("--jobs", type=int, default=2, help="mutants tried side by side")
    options.add_argument("--runs", type=Path, default=ROOT / "runs" / "mutants")
    given = options.parse_args()
    equal = equivalents(Path(__file__).with_name("mutants_equivalent.toml"))
    bench = Bench(ROOT, tracked(ROOT), given.runs.resolve(), given.jobs)
    try:  # of the copy, since somebody may be at work on the original
        mutants = choose(bench.first, given.packages, given.number, given.seed)
    except ImportError:
        sys.exit("cosmic-ray is missing: `make mutants` installs it (pip install -e '.[mutants]')")
    try:
        bench.try_all(mutants, partial(own_tests, bench.first), forbidden)
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here. So far:")
    print(*table(mutants, bench.results(), equal), sep="\n")


if __name__ == "__main__":
    main()
