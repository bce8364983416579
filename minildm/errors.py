"""How the command lines fail: what a user can mend is one line on stderr, and no traceback."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import typer
from typer.core import TyperGroup


@runtime_checkable
class SaysWhy(Protocol):
    """Click's errors do, and typer's: newer versions of typer hold a click of their own."""

    def format_message(self) -> str:
        """What is wrong with the command."""
        ...


class OneLineErrors(TyperGroup):
    """What goes wrong for a reason that the user can mend is one line on stderr and exit status 2,
    Ctrl-C is 130."""

    program = "minildm"  # the word that such a line begins with

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            return super().parse_args(ctx, args)  # shows the help
        with one_line_errors(self.program):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with one_line_errors(self.program), warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say(f"warning: {message}", self.program)
            return super().invoke(ctx)


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """Errors of the kinds that a user can mend, each a line and an exit status; others keep their
    traceback."""
    try:
        yield
        return
    except BrokenPipeError:  # `minildm data mnist | head -1`: its reader has had enough
        # Or Python complains while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except (ValueError, OSError) as error:
        say(str(error), program)
    except KeyboardInterrupt as interrupt:
        say(f"interrupted{interrupt}", program)
        raise typer.Exit(130) from None
    except Exception as error:
        if not isinstance(error, SaysWhy):
            raise
        say(error.format_message(), program)
    raise typer.Exit(2)


@contextmanager
def at_once() -> Iterator[None]:
    """While torch is being imported Ctrl-C ends the process: as an exception in its C++ it would be
    an abort."""

    def end(*_: Any) -> None:
        say("interrupted")
        os._exit(130)

    try:
        before = signal.signal(signal.SIGINT, end)
    except ValueError:  # only the main thread may
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def say(message: str, program: str = OneLineErrors.program) -> None:
    """One line on stderr."""
    print(f"{program}:", " ".join(message.split()), file=sys.stderr)
