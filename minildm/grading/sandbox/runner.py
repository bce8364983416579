"""The process that runs a submission: it executes cells and puts the grader's questions to the
functions they define.

It holds no answers. Each request is a line on standard input, each reply a line on a descriptor of
its own; what the submission prints goes nowhere. The process belongs to the submission, which may
do to it what it likes: all that it can change is what it replies, and the grader believes none of
it.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from minildm.grading.sandbox import wire


class OutOfTime(BaseException):
    """A cell or a question took longer than it may."""


class Definitions:
    """What the submission defines, by attribute; a plain sentence for what it does not."""

    def __init__(self, names: dict[str, Any]):
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self._names:
            raise AttributeError(f"the notebook defines no `{name}`")
        return self._names[name]


class NoShell:
    """Stands for IPython's shell, for code that asks for it: whatever is called does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def as_python(source: str) -> str:
    """The cell without IPython's own syntax: lines of %, ! and ? do nothing; %%time and its like
    run what they hold."""
    try:
        ast.parse(source)
        return source
    except SyntaxError:
        lines = source.splitlines()
    if lines[0].startswith("%%"):
        if lines[0].split()[0] not in ("%%time", "%%timeit", "%%capture", "%%prun"):
            return ""  # another language
        lines[0] = ""
    bare = [line.strip() for line in lines]
    foreign = [text[:1] in ("%", "!", "?") or text[-1:] == "?" for text in bare]
    indents = [line[: len(line) - len(line.lstrip())] for line in lines]
    return "\n".join(
        f"{i}pass" if skip else line for line, skip, i in zip(lines, foreign, indents, strict=True)
    )


def described(error: BaseException, file: str) -> str:
    """The error in one line, with the line of the cell where it happened."""
    if isinstance(error, OutOfTime):
        return str(error)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith("cell ")
    ]
    where = f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}{where}" if text else f"{type(error).__name__}{where}"


def set_alarms(ring: Callable, seconds: float, clock: float) -> None:
    """Ring after so much processor time or so much on the clock, again and again, for code that
    catches everything."""
    for number, timer, wait in (
        (signal.SIGPROF, signal.ITIMER_PROF, seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, clock),
    ):
        signal.signal(number, ring)
        signal.setitimer(timer, wait, 0.5 if wait else 0)


def perform(request: dict[str, Any], module: types.ModuleType) -> dict[str, Any]:
    """Run a cell, or ask a question: {"error": what went wrong or None, "answer": …}."""
    names = vars(module)
    file = request["name"]

    def ring(*_: Any) -> None:
        raise OutOfTime(f"took longer than the {request['seconds']:g} seconds that it may")

    set_alarms(ring, request["seconds"], request["clock"])
    try:
        if "ask" not in request:
            exec(compile(as_python(request["cell"]), file, "exec"), names)
            return {"error": None}
        own: dict[str, Any] = dict(request["constants"])
        exec(compile(request["ask"], "question", "exec"), own)
        answer = own["ask"](Definitions(names), wire.decode(request["given"]))
        return {"error": None, "answer": wire.encode(answer)}
    except BaseException as error:  # SystemExit, too: the next cell runs all the same
        return {"error": described(error, file)}
    finally:
        set_alarms(ring, 0, 0)


def main(replies: int) -> None:
    """Serve requests until the grader closes the line."""
    requests = os.fdopen(os.dup(0), "rb")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    module = types.ModuleType("__main__")
    shell = NoShell()
    vars(module).update(get_ipython=lambda: shell, display=lambda *_, **__: None)
    sys.modules["__main__"] = module
    sys.argv = ["notebook"]
    process = os.getpid()
    for text in requests:
        request = json.loads(text)
        try:
            reply = perform(request, module)
        except BaseException as error:  # a late alarm
            reply = {"error": described(error, request["name"])}
        if os.getpid() != process:  # the submission forked; only one of the two may go on
            os._exit(0)
        reply["id"] = request["id"]
        try:
            content = wire.line(reply)
        except ValueError as error:
            content = wire.line({"id": request["id"], "error": f"the answer is too large: {error}"})
        while content:
            content = content[os.write(replies, content) :]
