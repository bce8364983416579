"""Where benchmarks/mutants.py tries its mutants: copies of the tree, each in a process that has
torch and pytest loaded already, and a record of which test runs which line."""

from __future__ import annotations

import ast
import contextlib
import json
import multiprocessing
import os
import queue
import resource
import shutil
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path
from typing import Any

import coverage
import pytest
from tqdm import tqdm

LOADED = ["nbval.plugin", "torch", "torchvision", "scipy.stats", "hypothesis", "matplotlib.pyplot"]
LOADED += ["diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion"]
LOADED += ["transformers.models.clip.modeling_clip"]
SLOW = 20  # seconds; a test, or a file's set-up, that takes longer tries no mutants
MEMORY = 8 << 30  # bytes that a mutant's tests may take
IMPORTING, SETTING_UP = "", "set-up"  # beside the tests' names: who ran a line


def spent() -> float:
    """Processor time of this process and its children so far, which other work does not change."""
    return sum(os.times()[:4])


class Watch:
    """A plug-in of pytest: runs the chosen tests only, and notes seconds (of processor and clock),
    failures and, for each line of the package, who ran it."""

    def __init__(self, chosen: set[str] | None, lines: coverage.Coverage | None):
        self.chosen = chosen
        self.lines = lines
        self.seconds: dict[str, tuple[float, float]] = {}
        self.setup = 0.0
        self.failed: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.chosen is not None:
            items[:] = [item for item in items if item.nodeid in self.chosen]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):
        start = spent(), time.monotonic()
        self.now(SETTING_UP)
        result = yield
        self.seconds[item.nodeid] = spent() - start[0], time.monotonic() - start[1]
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item):
        start = spent()
        result = yield
        self.setup = max(self.setup, spent() - start)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item):
        self.now(item.nodeid)
        try:
            return (yield)
        finally:
            self.now(SETTING_UP)

    def now(self, context: str) -> None:
        if self.lines is not None:
            self.lines.switch_context(context)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def run_tests(
    tree: str, files: list[str], chosen: set[str] | None, seconds: int, out: str, watch: bool
) -> None:
    """In a process of its own: run tests of a tree for so many seconds of processor time at most,
    and write what happened to `out`."""
    os.setsid()  # what the tests start ends with them
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.chdir(tree)
    os.environ.update(PYTHONPATH=tree, PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
    sys.dont_write_bytecode = True  # else a mutant of the same second and length is not seen
    sys.path.insert(0, tree)
    log = os.open(out + ".log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    lines = None
    if watch:
        lines = coverage.Coverage(data_file=None, config_file=False, include=[f"{tree}/minildm/*"])
        lines.start()
    seen = Watch(chosen, lines)
    words = ["-q", "-p", "no:cacheprovider", "--rootdir", tree, *([] if watch else ["-x"])]
    code = pytest.main([*words, *(f"tests/{file}" for file in files)], plugins=[seen])
    found: dict[str, Any] = {"code": int(code), "seconds": seen.seconds, "setup": seen.setup}
    found["failed"] = seen.failed
    if lines is not None:
        lines.stop()
        data = lines.get_data()
        found["lines"] = {
            str(Path(file).relative_to(tree)): data.contexts_by_lineno(file)
            for file in data.measured_files()
        }
    Path(out).write_text(json.dumps(found))
    os._exit(int(code))


def statement(source: str, line: int) -> range:
    """The lines of the statement in which a line stands; of a block's, only its head."""
    best = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0):
            body = getattr(node, "body", None)
            head = range(node.lineno, body[0].lineno if body else (node.end_lineno or 0) + 1)
            if line in head:
                best = head
    return best


class Bench:
    """Copies of a tree in `folder`, and the results that are kept there."""

    def __init__(
        self, root: Path, files: Iterable[str], folder: Path, jobs: int, loaded: list[str] = LOADED
    ):
        self.folder = folder
        os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", MPLBACKEND="agg")
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(loaded)
        self.trees: queue.Queue[Path] = queue.Queue()
        self.jobs = jobs
        self.interrupted = False
        self.cache: dict[str, dict[str, Any]] = {}
        files = list(files)
        for number in range(jobs):
            tree = folder / f"tree-{number}"
            shutil.rmtree(tree, ignore_errors=True)
            for name in files:
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, tree / name)
            self.trees.put(tree)
        (folder / "tests").mkdir(parents=True, exist_ok=True)
        self.first = folder / "tree-0"
        python = [name for name in sorted(files) if name.endswith(".py")]
        self.texts = {name: (self.first / name).read_bytes() for name in python}
        self.all_tests = [
            name.removeprefix("tests/")
            for name in self.texts
            if name.startswith("tests/test_") and name.count("/") == 1
        ]

    def fingerprint(self, wanted: Callable[[str], bool]) -> str:
        """Of the Python files that are wanted."""
        content = b"\0".join(
            name.encode() + text for name, text in self.texts.items() if wanted(name)
        )
        return sha256(content).hexdigest()[:16]

    def side_by_side(self, what: str, work: Callable[[Any, Path], None], items: list[Any]) -> None:
        """Do it for every item, each in a copy of the tree; the bar shows the time that is left."""

        def one(item: Any) -> None:
            tree = self.trees.get()
            try:
                work(item, tree)
            finally:
                self.trees.put(tree)

        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                running = [pool.submit(one, item) for item in items]
                for done in tqdm(as_completed(running), what, len(items), smoothing=0.1):
                    done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.interrupted = True  # what now ends has no result
                for child in multiprocessing.active_children():
                    end(child)
                raise

    def run(
        self,
        tree: Path,
        files: list[str],
        chosen: set[str] | None,
        seconds: float,
        clock: float,
        watch: bool = False,
    ) -> dict[str, Any] | None:
        """What running these tests gave; None if it took more seconds, of processor time or on the
        clock, than these."""
        out = tree.with_name(f"{tree.name}.json")
        out.unlink(missing_ok=True)
        child = self.processes.Process(
            target=run_tests, args=(str(tree), files, chosen, int(seconds) + 1, str(out), watch)
        )
        child.start()
        child.join(clock)
        late = child.is_alive() or child.exitcode == -signal.SIGXCPU
        end(child)  # with whatever it has left running
        child.join()
        if self.interrupted:
            raise RuntimeError("interrupted")
        if late:
            return None
        if not out.is_file():
            return {"code": child.exitcode or 1, "failed": ["a crash"]}
        return json.loads(out.read_text())

    def run_chosen(self, tree: Path, chosen: dict[str, list[float]]) -> dict[str, Any] | None:
        """Run these tests until one fails, the quick files first."""
        files: dict[str, float] = defaultdict(float)
        for test, (seconds, _) in chosen.items():
            files[test.split("::")[0].removeprefix("tests/")] += seconds
        usual, clock = (sum(both) for both in zip(*chosen.values(), strict=True))
        names = sorted(files, key=lambda name: files[name])
        return self.run(tree, names, set(chosen), 30 + 4 * usual, 60 + 10 * clock)

    def learn(self, files: Iterable[str]) -> None:
        """Run test files as they are, once, to know how long each test takes and what it runs."""
        unknown = [file for file in files if not self.known(file).is_file()]

        def work(file: str, tree: Path) -> None:
            found = self.run(tree, [file], None, 1800, 7200, watch=True)
            if found is None:
                found = {"seconds": {}, "setup": 0, "failed": [], "lines": {}}
            known = self.known(file)
            known.with_suffix(".partial").write_text(json.dumps(found))
            os.replace(known.with_suffix(".partial"), known)

        if unknown:
            self.side_by_side("tests as they are", work, unknown)

    def known(self, file: str) -> Path:
        """Where it is kept what a test file runs: it hangs on the file, what it shares with others,
        and the package."""

        def wanted(name: str) -> bool:
            shared = name.startswith("tests/") and not name.startswith("tests/test_")
            return shared or name.startswith("minildm/") or name == f"tests/{file}"

        return self.folder / "tests" / f"{Path(file).stem}-{self.fingerprint(wanted)}.json"

    def usable(self, file: str) -> dict[str, Any]:
        """What is known of a test file, without the tests that fail as it is or are slow."""
        if file in self.cache:
            return self.cache[file]
        found = json.loads(self.known(file).read_text())
        fast = found["setup"] <= SLOW
        found["seconds"] = {
            name: seconds
            for name, seconds in found["seconds"].items()
            if fast and seconds[0] <= SLOW and name not in found["failed"]
        }
        self.cache[file] = found
        return found

    def tests_of_line(
        self, mutant: Any, files: list[str], whole_files: bool
    ) -> dict[str, list[float]]:
        """The tests that run a mutant's statement, with their seconds.

        What is run while a file is imported or set up serves all of its tests. A statement that no
        test runs in its own process may be run in another one: then all of these tests count.
        """
        lines = statement(self.texts[mutant.file].decode(), mutant.line)
        chosen: dict[str, list[float]] = {}
        everything: dict[str, list[float]] = {}
        for file in files:
            found = self.usable(file)
            seen = found["lines"].get(mutant.file, {})
            by = {test for line in lines for test in seen.get(str(line), [])}
            everything |= found["seconds"]
            shared = by & {IMPORTING, SETTING_UP} or (whole_files and by)
            chosen |= {
                test: seconds for test, seconds in found["seconds"].items() if shared or test in by
            }
        return chosen or everything

    def try_all(
        self,
        mutants: list[Any],
        own: Callable[[str], list[str]],
        forbidden: Callable[[str], set[str]],
    ) -> None:
        """Try each mutant with its module's tests, and those that live with all tests."""
        tests = self.fingerprint(lambda name: name.startswith("tests/"))

        def attempt(mutant: Any, tree: Path, files: list[str], last: bool) -> None:
            chosen = self.tests_of_line(mutant, files, whole_files=last)
            start = time.monotonic()
            path = tree / mutant.file
            original = path.read_bytes()
            try:
                path.write_text(mutant.source, encoding="utf-8")
                found = self.run_chosen(tree, chosen) if chosen else {"code": 5}
            finally:
                path.write_bytes(original)
            killed = found is None or found["code"] not in (0, 5)
            by = f"{len(chosen)} tests"
            if killed:
                by = [*found["failed"], "what cannot be imported"][0] if found else "the time limit"
            about = {"key": mutant.key, "killed": killed, "by": by, "all": last, "tests": tests}
            about |= {"file": mutant.file, "line": mutant.line, "after": mutant.after}
            about["seconds"] = round(time.monotonic() - start, 1)
            with (self.folder / "results.jsonl").open("a") as file:
                file.write(json.dumps(about) + "\n")

        for last in (False, True):
            known = self.results()
            todo = []
            for mutant in mutants:
                result = known.get(mutant.key)
                current = result and (result["killed"] or result["tests"] == tests)
                if not current or (last and not result["killed"] and not result["all"]):
                    allowed = self.all_tests if last else own(mutant.file)
                    todo.append((mutant, sorted(set(allowed) - forbidden(mutant.file))))
            self.learn(sorted({file for _, files in todo for file in files}))
            self.side_by_side(
                "survivors, all tests" if last else "mutants",
                lambda item, tree, last=last: attempt(item[0], tree, item[1], last),
                todo,
            )

    def results(self) -> dict[str, dict[str, Any]]:
        """What is known of each mutant, by its key."""
        path = self.folder / "results.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        return {found["key"]: found for found in map(json.loads, lines)}


def end(child: multiprocessing.process.BaseProcess) -> None:
    """End a process of `run_tests` and whatever it has started."""
    child.kill()
    if child.pid:
        with contextlib.suppress(ProcessLookupError):  # it may not lead its own group yet
            os.killpg(child.pid, signal.SIGKILL)
