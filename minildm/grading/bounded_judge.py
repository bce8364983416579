"""Judging in a process of its own: an answer is a stranger's, and a judge may compute with it
before it looks at its shape. What that may take of memory and time is bounded."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from minildm.grading.assignment import Assignment, Part
from minildm.grading.judging import Mark, mark_part
from minildm.grading.sandbox.session import Stopped
from minildm.grading.sandbox.wire import decode, encode

MEMORY = 1 << 30  # bytes that judging may take, beyond what the assignments do
SECONDS = 120.0  # on the clock, for one answer, the reading of its assignment included


class BoundedJudge:
    """The process that judges: started when it is first asked, and again after it had to be ended.
    It is asked one thing at a time, whichever thread asks. `stop`: who waits for it, here or for a
    submission's process, waits no longer once that is set."""

    def __init__(self, stop: threading.Event | None = None):
        self.stop = stop or threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.asked = threading.Lock()

    def mark(self, assignment: Assignment, part: Part, reply: dict[str, Any]) -> Mark:
        """As `mark_part`; no points for an answer that takes too much to judge. A RuntimeError if
        the assignment is no longer what it was when the submission was asked."""
        if reply["error"]:
            return mark_part(part, reply)
        request = {"path": str(assignment.path.resolve()), "key": assignment.key}
        request |= {"digest": assignment.digest, "part": part.name}
        request["answer"] = encode(reply["answer"])
        with self.asked:
            said, reason = self.ask(json.dumps(request).encode() + b"\n")
        if said is None:
            text = f"the answer cannot be judged: {reason}"
            return Mark(part.name, part.title, 0, part.points, text)
        if "failed" in said:
            raise RuntimeError(said["failed"])
        return Mark(**said)

    def ask(self, request: bytes) -> tuple[dict[str, Any] | None, str]:
        """What the process says to one line; None, and why, where it had to be ended."""
        if self.stop.is_set():
            raise Stopped("the grader was interrupted")
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {MAIN}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the grader's to answer
            )
        requests, replies = self.process.stdin, self.process.stdout
        assert requests is not None and replies is not None  # pipes both
        with contextlib.suppress(BrokenPipeError):  # it ends: that is read below
            requests.write(request)
            requests.flush()
        latest = time.monotonic() + SECONDS
        while not select.select([replies], [], [], 0.1)[0]:
            if self.stop.is_set():
                raise Stopped("the grader was interrupted")
            if time.monotonic() > latest:
                self.close()
                return None, f"that takes longer than {SECONDS:g} seconds"
        if line := replies.readline():
            return json.loads(line), ""
        self.close()
        return None, "the process that judges was ended by it"

    def close(self) -> None:
        """End the process; whoever asks next starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.process = None

    def __enter__(self) -> BoundedJudge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


MAIN = "from minildm.grading.bounded_judge import serve; serve()"


def serve() -> None:
    """In the process: judge what comes in, line by line, until the grader closes the line."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an assignment prints is no reply
    assignments: dict[str, Assignment] = {}
    for line in sys.stdin.buffer:
        serve_one(json.loads(line), assignments, replies)


def serve_one(request: dict[str, Any], assignments: dict[str, Assignment], to: IO[str]) -> None:
    """Read the assignment if it is a new one, judge the answer, and write its mark as a line."""
    digest = request["digest"]
    if digest not in assignments:
        set_limit(None)
        try:
            found = Assignment(Path(request["path"]), request["key"])
        except ValueError as error:
            found = str(error)
        if isinstance(found, str) or found.digest != digest:
            text = f"{request['path']}: it was changed while its submissions were graded"
            print(json.dumps({"failed": text}), file=to, flush=True)
            return
        assignments[digest] = found
        set_limit(taken() + MEMORY)
    (part,) = [part for part in assignments[digest].parts if part.name == request["part"]]
    mark = mark_part(part, {"error": None, "answer": decode(request["answer"])})
    print(json.dumps(mark._asdict()), file=to, flush=True)


def taken() -> int:
    """Bytes of this process's memory that it may write to, as the kernel counts them; without
    Linux, what it had at most."""
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields["VmData"].split()[0]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def set_limit(size: int | None) -> None:
    """From here on a larger allocation is a MemoryError, where the system counts them."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if size is None or (hard != resource.RLIM_INFINITY and hard < size):
        size = hard
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (size, hard))
