"""The process that runs a submission: it executes cells and puts the grader's questions to the
functions they define.

It holds no answers. Each request is a line on standard input, each reply a line on a descriptor of
its own; what the submission prints goes nowhere. The process belongs to the submission, which may
do to it what it likes: all that it can change is what it replies, and the grader believes none of
it.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import dis
import inspect
import json
import os
import signal
import sys
import traceback
import types
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from minildm.grading.sandbox import wire

if TYPE_CHECKING:
    import asyncio

Names = dict[str, Any]


class OutOfTime(BaseException):
    """A cell or a question took longer than it may."""


class Definitions:
    """What the submission defines, by attribute; a plain sentence for what it does not."""

    def __init__(self, names: Names):
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self._names:
            raise AttributeError(f"the notebook defines no `{name}`")
        return self._names[name]


class NoShell:
    """Stands for IPython's shell: what magics hold is run as Python where IPython does that, all
    else that is called does nothing."""

    def __init__(self, names: Names):
        self._names = names

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None

    def getoutput(self, *_: Any, **__: Any) -> list[str]:
        """`files = !ls`: no command is run, so no lines."""
        return []

    def run_line_magic(self, name: str, line: str, *_: Any, **__: Any) -> Any:
        """%time and %prun run a statement, or give an expression's value."""
        if name not in ("time", "prun"):
            return None
        try:
            code = compile(line, "cell", "eval")
        except SyntaxError:
            return run(line, caller(), self._names)
        return eval(code, self._names)

    def run_cell_magic(self, name: str, line: str, cell: str) -> None:
        """%%time and its like run the cell; the others are of another language."""
        if name in ("time", "timeit", "capture", "prun"):
            run(f"\n{cell}", caller(), self._names)
            if name == "capture" and line.split()[:1]:
                self._names[line.split()[-1]] = self


def caller() -> str:
    """The name of the cell that called a magic, for its errors."""
    frame = inspect.currentframe()
    for _ in range(2):
        frame = frame and frame.f_back
    return frame.f_code.co_filename if frame else "cell"


def as_python(source: str) -> str:
    """The cell as IPython reads it: its magics, `!commands` and help requests become calls of
    `get_ipython()`. What is Python already stays as it is."""
    try:
        ast.parse(source)
        return source
    except SyntaxError:
        # Only here: it takes half a second to import.
        from IPython.core.inputtransformer2 import TransformerManager

        return TransformerManager().transform_cell(source)


def run(source: str, file: str, names: Names) -> None:
    """Run a cell, which may `await` at its outermost level, as in IPython."""
    code = compile(as_python(source), file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    done = eval(code, names)
    if code.co_flags & inspect.CO_COROUTINE:
        loop().run_until_complete(done)


@cache
def loop() -> asyncio.AbstractEventLoop:
    """The one event loop of all cells: what one has started another may await."""
    import asyncio

    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    return made


def missing(sources: list[str], names: Names) -> set[str]:
    """The global names that functions in these cells read and nobody has defined."""
    found: set[str] = set()
    for source in sources:
        try:
            pending = [compile(as_python(source), "", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)]
        except (SyntaxError, ValueError):
            continue
        while pending:
            inside = [c for c in pending.pop().co_consts if isinstance(c, types.CodeType)]
            pending += inside
            for code in inside:
                for step in dis.get_instructions(code):
                    if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                        found.add(str(step.argval))
    return found - set(names) - set(dir(builtins))


def look_up(looks: list[str], cells: list[str], names: Names) -> None:
    """Run of the cells that only show something what the functions in `cells` need of them: their
    imports, or all of a cell that makes such a name. Nothing that is there is replaced, and their
    own errors do not matter."""
    for look in looks:
        body = ast.parse(as_python(look)).body
        imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
        wanted = missing(cells, names)
        for node in imports:
            if wanted & {(each.asname or each.name).partition(".")[0] for each in node.names}:
                with contextlib.suppress(Exception):
                    exec(compile(ast.Module([node], []), "look", "exec"), names)
        nodes = [node for top in body for node in ast.walk(top)]
        made = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        made |= {n.name for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
        if made & missing(cells, names):
            own = dict(names)
            with contextlib.suppress(Exception):
                run(look, "look", own)
            names.update({name: own[name] for name in own.keys() - names.keys()})


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


def perform(request: Names, module: types.ModuleType) -> Names:
    """Run a cell, or ask a question: {"error": what went wrong or None, "answer": …}."""
    names = vars(module)
    file = request["name"]

    def ring(*_: Any) -> None:
        raise OutOfTime(f"took longer than the {request['seconds']:g} seconds that it may")

    set_alarms(ring, request["seconds"], request["clock"])
    try:
        if "looks" in request:
            look_up(request["looks"], request["cells"], names)
            return {"error": None}
        if "ask" not in request:
            run(request["cell"], file, names)
            return {"error": None}
        own: Names = dict(request["constants"])
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
    shell = NoShell(vars(module))
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
