"""Throw 10,000 hostile inputs at the package: each is either refused in one line of our own, or
works and gives what is right.

    python benchmarks/abuse.py [--inputs 10000] [--seed 0] [--surfaces functions files]
    python benchmarks/abuse.py --again functions/17    # one input, with its traceback

`abuse_surfaces.py` and `abuse_folders.py` make the inputs, each from its surface, its number and
the seed, and know what has to come of it. They run in child processes, of which one that takes too
long or too much memory is ended and counted. Exit status 1 where something is wrong: a traceback
(an error that is not raised by a line of minildm with words of its own), silent nonsense (what is
wrong was taken without a warning, what is right was refused, or the result is wrong), or an end by
force.
"""

from __future__ import annotations

import argparse
import linecache
import multiprocessing
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from abuse_folders import SURFACES as OF_FOLDERS
from abuse_surfaces import SURFACES as OF_PARTS
from abuse_surfaces import Input, World

import minildm

PACKAGE = str(Path(minildm.__file__).parent)
WRONG = ("traceback", "nonsense", "hangs", "dies")
MAKING = "making the model"
SURFACES = OF_PARTS | OF_FOLDERS
ROOM = 4 * 2**30  # bytes that an input may take


class Verdict(NamedTuple):
    """kind: works, refused, warned, or one of WRONG. told: what the input was. why: what came."""

    kind: str
    told: str
    why: str = ""


def make(surface: str, number: int, seed: int, world: World) -> Input:
    """The input of that number, the same on every run."""
    return SURFACES[surface][0](Random(f"{seed}/{surface}/{number}"), world)


def judge(given: Input) -> Verdict:
    """Try an input, and hold what comes of it against what has to."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            result = given.act()
        except Exception as error:  # of any kind: that is the question
            if not is_ours(error):
                return Verdict("traceback", given.told, where(error))
            if given.right:
                return Verdict("nonsense", given.told, f"refused what is right: {error}")
            return Verdict("refused", given.told, str(error))
        fault = given.fault(result)
    told = [warning for warning in warned if issubclass(warning.category, UserWarning)]
    if fault.startswith("traceback"):
        return Verdict("traceback", given.told, fault)
    if told and (fault or given.right is False):
        return Verdict("warned", given.told, str(told[0].message))
    if given.right is False and not fault and not hasattr(result, "status"):
        fault = "took what is wrong"
    works = "refused" if getattr(result, "status", 0) else "works"
    return Verdict("nonsense" if fault else works, given.told, fault)


def is_ours(error: Exception) -> bool:
    """Is it a one-line error that a line of minildm raises with words of its own?"""
    if (
        type(error).__name__ == "TraitError"
    ):  # what a widget's field holds, traitlets says in a line
        return True
    frame = traceback.extract_tb(error.__traceback__)[-1]
    raised = linecache.getline(frame.filename, frame.lineno or 0).strip().startswith("raise ")
    mine = frame.filename.startswith(PACKAGE) and raised
    message = str(error)
    return (
        mine
        and isinstance(error, (ValueError, OSError))
        and 0 < len(message)
        and "\n" not in message
    )


def where(error: Exception) -> str:
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(PACKAGE)
    ]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside"
    return f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:120]}"


def work(told: Connection, surface: str, numbers: range, seed: int, folder: Path) -> None:
    """In a child: judge the inputs of these numbers, one after the other."""
    torch.set_num_threads(1)
    world = World(folder)
    with suppress(ImportError, OSError, ValueError):  # where there are such limits
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    for number in numbers:
        given = make(surface, number, seed, world)
        told.send((number, given.told, None))
        told.send((number, given.told, judge(given)))
    told.send(None)


def run(
    surface: str, count: int, seed: int, limit: float, folder: Path
) -> Iterator[tuple[int, Verdict]]:
    """All inputs of a surface; `limit`: how many seconds one may take."""
    context = multiprocessing.get_context("spawn")
    number = 0
    while number < count:
        ours, theirs = context.Pipe(duplex=False)
        job = (theirs, surface, range(number, count), seed, folder)
        child = context.Process(target=work, args=job, daemon=True)
        child.start()
        theirs.close()
        told, patience = MAKING, 10 * limit + 60
        while True:
            try:
                message = ours.recv() if ours.poll(patience) else "hangs"
            except EOFError:
                message = "dies"
            if message is None or isinstance(message, str):
                break
            number, told, verdict = message
            patience = limit
            if verdict is not None:
                yield number, verdict
                number += 1
        if told == MAKING:
            raise RuntimeError("the model that the inputs work on cannot be made")
        child.kill()
        child.join()
        if message is None:
            return
        yield number, Verdict(message, told, f"after {limit:g} s" if message == "hangs" else "")
        number += 1


def report(verdicts: dict[str, Counter[str]], wrong: list[tuple[str, int, Verdict]]) -> None:
    """The table, and each kind of fault once, with how often it was met and one input of it."""
    kinds = ("works", "refused", "warned", *WRONG)
    print(f"{'surface':12}{'inputs':>8}", *(f"{kind:>10}" for kind in kinds))
    for surface, counts in verdicts.items():
        print(f"{surface:12}{counts.total():8}", *(f"{counts[kind]:10}" for kind in kinds))
    alike: defaultdict[tuple[str, str, str], list[tuple[int, Verdict]]] = defaultdict(list)
    for surface, number, verdict in wrong:
        what = verdict.why if verdict.kind == "traceback" else verdict.told
        alike[surface, verdict.kind, " ".join(what.split()[:4])[:40]].append((number, verdict))
    for (surface, kind, _), found in sorted(alike.items(), key=lambda item: -len(item[1])):
        number, verdict = found[0]
        print(f"{len(found):5} x {surface}/{number} {kind}: {verdict.told} -> {verdict.why}")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="hostile inputs, and what comes of them")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--surfaces", nargs="+", choices=SURFACES, default=list(SURFACES))
    parser.add_argument("--limit", type=float, default=20, help="seconds that one may take")
    parser.add_argument("--again", help="one input, such as functions/17, with its traceback")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.again:
            surface, number = options.again.split("/")
            given = make(surface, int(number), options.seed, World(folder))
            print(given.told, "right:", given.right, flush=True)
            result = given.act()
            print("fault:", given.fault(result) or "none")
            return 0
        shares = {surface: SURFACES[surface][1] for surface in options.surfaces}
        verdicts: dict[str, Counter[str]] = {surface: Counter() for surface in shares}
        wrong, start = [], time.monotonic()
        for surface, share in shares.items():
            count = round(options.inputs * share / sum(shares.values()))
            for number, verdict in run(surface, count, options.seed, options.limit, folder):
                verdicts[surface][verdict.kind] += 1
                if verdict.kind in WRONG:
                    wrong.append((surface, number, verdict))
    report(verdicts, wrong)
    print(f"{len(wrong)} wrong, in {time.monotonic() - start:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
