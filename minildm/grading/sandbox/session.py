"""One submission's process, seen from the grader: started in its cage, asked, watched, ended."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from minildm.grading.sandbox import wire
from minildm.grading.sandbox.cage import BOUNDS

# What of the system a submission may read.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
SYSTEM += ("/etc/ld.so.cache", "/etc/alternatives")
START = 120.0  # seconds in which the process must be ready, on the slowest machine
GRACE = 3.0  # seconds beyond a step's own limit before its process is ended
MOST_LINES = 100_000  # of replies: one for each cell and question is wanted
# Seconds on the clock for each second of processor time: others may be computing, too.
PATIENCE = 4


class Limits(NamedTuple):
    """What one submission may take: processor time and memory of all its processes together,
    processes, disk."""

    seconds: int = 180
    memory_mb: int = 2500
    processes: int = 64
    disk_mb: int = 64


class Died(Exception):
    """The submission's process ended, or had to be ended: why."""


class Stopped(Exception):
    """The grader was interrupted: nothing is known of this submission."""


def readable_paths() -> list[str]:
    """What a submission may read: the system, this Python with its packages, minildm and its data.
    Nothing else."""
    package = Path(__file__).resolve().parents[2]  # minildm/
    paths = [*SYSTEM, sys.prefix, sys.base_prefix, str(package)]
    paths += [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    data = package.parent / "data"  # beside the package where minildm runs from its repository
    if (data / "SHA256SUMS").is_file() or (data / "README.md").is_file():
        paths.append(str(data))
    return sorted({*paths, *map(os.path.realpath, paths)})


class Session:
    """A started process. `request` puts one step to it; `close` ends it and everything that it
    started. `stop`: once it is set, no request is waited for any longer."""

    def __init__(
        self,
        limits: Limits,
        slot: int = 0,
        namespaces: bool = True,
        stop: threading.Event | None = None,
    ):
        self.limits = limits
        self.stop = stop or threading.Event()
        self.spent = 0.0
        self.folder = tempfile.mkdtemp(prefix="minildm-grade-")
        self.buffer = bytearray()
        self.lines = 0
        reply_read, reply_write = os.pipe()
        report_read, report_write = os.pipe()
        folder, name = os.path.split(sys.executable)
        python = os.path.join(os.path.realpath(folder), name)
        main = "from minildm.grading.sandbox.runner import main"
        start = f"import sys; sys.path[:] = {sys.path!r}; {main}; main({reply_write})"
        spec = limits._asdict() | {
            "command": [python, "-I", "-B", "-c", start],
            "environment": {
                "PATH": "/usr/bin:/bin",
                "USER": "student",
                "LOGNAME": "student",
                "LANG": "C.UTF-8",
                "OMP_NUM_THREADS": "1",
                "MPLBACKEND": "Agg",
                "HF_HUB_OFFLINE": "1",
                "MINILDM_PACE": "test",
            },
            "namespaces": namespaces,
            "root": self.folder,
            "readable": readable_paths(),
            "uid": 61000 + slot,
            "report": report_write,
            "pass": [reply_write],
        }
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("cage.py")), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(reply_write, report_write),
            env={},
        )
        assert self.process.stdin is not None and self.process.stderr is not None  # pipes both
        self.requests = self.process.stdin
        self.complaints = self.process.stderr
        self.replies = reply_read
        os.close(reply_write)
        os.close(report_write)
        os.set_blocking(self.requests.fileno(), False)
        with os.fdopen(report_read) as report:
            reported = report.readline()
        if not reported:
            reason = self.complaints.read().decode(errors="replace").strip()
            self.close()
            raise RuntimeError(f"the bounded process did not start: {reason}")
        self.bounds = set(json.loads(reported))
        self.request("starting", START, cell="")
        self.spent = seconds_of(self.process.pid)  # what starting took is not the submission's

    def request(
        self, name: str, seconds: float, until: float = math.inf, **step: Any
    ) -> dict[str, Any]:
        """Put one step to the process: {"error": … or None, "answer": …}. `Died` if there is no
        reply to be had.

        `seconds` are of processor time, so that a busy machine costs nobody points; on the clock,
        PATIENCE times that, and no later than `until`.
        """
        identity = secrets.token_hex(8)
        before = seconds_of(self.process.pid)
        left = self.limits.seconds - (before - self.spent) if self.spent else START
        seconds = min(seconds, max(left, 0.1))
        clock = min(PATIENCE * seconds, max(until - time.monotonic(), 0.1))
        message = wire.line(
            {"id": identity, "name": name, "seconds": seconds, "clock": clock, **step}
        )
        latest = time.monotonic() + clock + GRACE
        while True:
            if self.stop.is_set():
                self.close()
                raise Stopped("the grader was interrupted")
            if time.monotonic() > latest or seconds_of(self.process.pid) - before > seconds + GRACE:
                what = "it all" if seconds == left else name
                self.end(f"{what} took longer than allowed and could not be interrupted")
            if memory_of(self.process.pid) > self.limits.memory_mb << 20:
                self.end(f"it took more than {self.limits.memory_mb} MB of memory")
            writers = [self.requests] if message else []
            readable, writable, _ = select.select([self.replies], writers, [], 0.1)
            if writable:
                try:
                    message = message[os.write(self.requests.fileno(), message[:65536]) :]
                except BlockingIOError:
                    pass
                except BrokenPipeError:
                    message = b""
            if readable and (reply := self.read(identity)) is not None:
                return reply

    def read(self, identity: str) -> dict[str, Any] | None:
        """What has come in, if it is the whole reply. A reply to anything else is dropped."""
        content = os.read(self.replies, 1 << 20)
        if not content:
            self.end(self.epitaph())
        self.buffer += content  # a bytearray grows in place; only what is new is searched
        lines = []
        if b"\n" in content:
            *lines, self.buffer = self.buffer.split(b"\n")
        self.lines += len(lines)
        if self.lines > MOST_LINES:
            self.end("it wrote without end where its answers go")
        for line in lines:
            try:
                wire.check_items(line)
                reply = json.loads(line)
                if isinstance(reply, dict) and reply.get("id") == identity:
                    return {"error": reply.get("error"), "answer": wire.decode(reply.get("answer"))}
            except (ValueError, RecursionError):
                self.end("it wrote something unreadable where its answers go")
        if len(self.buffer) > wire.LONGEST_LINE:
            self.end("it wrote without end where its answers go")
        return None

    def epitaph(self) -> str:
        """How a process ended that ended by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(timeout=GRACE)
            for number in signal.Signals:
                if status in (128 + number, -number):
                    return f"its process was ended by {number.name}"
            return f"its process ended by itself (exit status {status})"
        return "it closed the line on which its answers go"

    def end(self, reason: str) -> None:
        """End the process and say so."""
        self.close()
        raise Died(reason)

    def close(self) -> None:
        """End everything that runs in the cage, and remove its folder."""
        with contextlib.suppress(OSError):
            os.close(self.replies)
        self.replies = -1
        for pid in [*descendants(self.process.pid), self.process.pid]:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.requests, self.complaints):
            with contextlib.suppress(OSError):
                pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def descendants(pid: int) -> list[int]:
    """The processes that this one started, and they, on Linux; process 1 of a cage comes first, and
    all die with it."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, children.read_text().split()):
                found += [child, *descendants(child)]
    return found


def memory_of(pid: int) -> int:
    """Bytes that a process and its descendants hold for themselves."""
    total = 0
    for child in descendants(pid):
        with contextlib.suppress(OSError, ValueError):
            status = Path(f"/proc/{child}/status").read_text()
            fields = dict(line.split(":", 1) for line in status.splitlines())
            for name in ("RssAnon", "RssShmem"):
                total += int(fields.get(name, "0 kB").split()[0]) << 10
    return total


def seconds_of(pid: int) -> float:
    """Processor time that a process's descendants have taken, those that have ended among them; 0
    where unknown."""
    ticks = 0
    for child in descendants(pid):
        with contextlib.suppress(OSError, ValueError, IndexError):
            after_name = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, after_name[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def missing_bounds(namespaces: bool = True) -> dict[str, str]:
    """What cannot be bounded on this machine, and what that means; found by entering a cage."""
    with Session(Limits(seconds=20), namespaces=namespaces) as session:
        return {name: meaning for name, meaning in BOUNDS.items() if name not in session.bounds}
