"""A bounded process: its own file system, no network, nothing to see of other processes, and limits
on all it takes.

`python cage.py SPEC` with SPEC in JSON enters the cage and runs a command in it. On Linux the
kernel's namespaces do it, for root and for an ordinary user alike (namespaces(7), pivot_root(2)).
Whatever this platform cannot do is reported, as a line of JSON on the descriptor that SPEC names,
before the command starts. The standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Every bound, and what its absence means to the teacher who is asked whether to go on.
BOUNDS = {
    "network": "a submission can reach the network",
    "files": "a submission can read what your user can read, other submissions and this course's "
    "key among it",
    "processes": "a process that a submission leaves behind may outlive it",
    "user": "a submission runs as your own user and can write and delete your files",
    "memory": "a submission can take all of the memory",
}
# The kernel's numbers: for unshare(2), for mount(2) with statvfs(3), and for prctl(2).
NEWNS, NEWUTS, NEWIPC = 0x20000, 0x4000000, 0x8000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT = 1, 2, 4, 8, 32
BIND, REC, PRIVATE, RELATIME = 4096, 16384, 1 << 18, 1 << 21
ST_RELATIME = 4096
KEPT = 2 | 4 | 8 | 1024 | 2048  # flags that a remount must repeat
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
HOME = "/home/student"

# System calls that a notebook never makes: the first five take memory that no limit counts, with
# the others a process looks into another one or into the kernel. Their numbers on each machine, and
# each machine's own (AUDIT_ARCH).
REFUSED = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "io_uring_setup": (425, 425),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "keyctl": (250, 219),
}
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def call(name: str, *arguments: Any) -> None:
    """A function of the C library; OSError if it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    encoded = [
        a.encode() if isinstance(a, str) else ctypes.c_ulong(a) if isinstance(a, int) else a
        for a in arguments
    ]
    if getattr(libc, name)(*encoded):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def enter_user_namespace(flags: int, uid: int, gid: int) -> None:
    """A new user namespace, with what else `flags` say, in which one is called that."""
    outside = os.getuid(), os.getgid()
    call("unshare", flags | NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outside[0]} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {outside[1]} 1")


def can_become(uid: int) -> bool:
    """Whether this process may turn into another user for good: it is root, and that number means
    somebody here. In a container without root outside it there may be nobody else."""
    if os.getuid():
        return False
    with contextlib.suppress(FileNotFoundError):  # no namespaces, so all numbers are somebody's
        for kind in ("uid", "gid"):
            lines = Path(f"/proc/self/{kind}_map").read_text().splitlines()
            ranges = [(int(line.split()[0]), int(line.split()[2])) for line in lines]
            if not any(first <= uid < first + length for first, length in ranges):
                return False
    return True


def forbid_namespaces(own: bool) -> None:
    """No user namespace inside this one, in which a submission would have rights again; `own` makes
    this one first.

    The number belongs to the namespace: without one of its own, the whole machine's would be set.
    """
    with contextlib.suppress(OSError):
        if own:
            enter_user_namespace(0, os.getuid(), os.getgid())
        Path("/proc/sys/user/max_user_namespaces").write_text("0")


def separate(drops: bool, uid: int, gid: int) -> set[str]:
    """Leave the host's namespaces; the bounds that this gives. The next child is process 1 of the
    new ones.

    Who will not become another user (`drops`) is called `uid` in a user namespace, and not 0: root
    there would keep its rights in it.
    """
    flags = NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS
    with contextlib.suppress(OSError, AttributeError):
        if drops:
            call("unshare", flags)
        else:
            enter_user_namespace(flags, uid, gid)
        return {"network", "processes"}
    return set()


def build_root(root: str, readable: list[str], disk_mb: int, uid: int, gid: int) -> None:
    """A file system of `readable`, which cannot be written, and an empty home of `disk_mb`; then
    make it the root."""
    call("mount", "none", "/", None, REC | PRIVATE, None)
    call("mount", "tmpfs", root, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    devices = [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")]
    done: list[str] = []
    for path in sorted(readable) + devices:
        mounted = any(path == d or path.startswith(d.rstrip("/") + "/") for d in done)
        if mounted or not os.path.exists(path):
            continue
        inside = root + path
        os.makedirs(os.path.dirname(inside), mode=0o755, exist_ok=True)
        if os.path.islink(path):
            os.symlink(os.readlink(path), inside)
            continue
        os.mkdir(inside) if os.path.isdir(path) else os.close(os.open(inside, os.O_CREAT))
        call("mount", path, inside, None, BIND | REC, None)
        done.append(path)
    for mount in Path("/proc/self/mountinfo").read_text().splitlines():
        place = mount.split()[4].encode().decode("unicode_escape")
        if place.startswith(root + "/"):
            flags = os.statvfs(place).f_flag
            kept = flags & KEPT
            if flags & ST_RELATIME:
                kept |= RELATIME
            if "/dev/" not in place:
                kept |= NODEV
            call("mount", None, place, None, BIND | REMOUNT | RDONLY | NOSUID | kept, None)
    os.makedirs(root + HOME)
    size = f"size={disk_mb}m,nr_inodes=10000,mode=755"
    call("mount", "tmpfs", root + HOME, "tmpfs", NOSUID | NODEV, size)
    os.mkdir(f"{root}{HOME}/tmp")
    for path in (root + HOME, f"{root}{HOME}/tmp"):
        os.chown(path, uid, gid)
    for path in ("/tmp", "/dev/shm"):
        with contextlib.suppress(FileExistsError):  # an environment may lie below /tmp
            os.symlink(f"{HOME}/tmp", root + path)
    os.mkdir(root + "/proc")
    with contextlib.suppress(OSError):  # some containers forbid it; Python and PyTorch do without
        call("mount", "proc", root + "/proc", "proc", NOSUID | NODEV | NOEXEC, None)
    call("mount", None, root, None, REMOUNT | RDONLY | NOSUID | NODEV, "size=1m,mode=755")
    os.chdir(root)
    call("pivot_root", ".", ".")
    call("umount2", ".", MNT_DETACH)
    os.chdir(HOME)


def limit(spec: dict[str, Any]) -> bool:
    """Limits on memory, processor time, processes, open and large files. False if memory cannot be
    limited here."""
    memory = spec["memory_mb"] << 20
    wanted = {
        "RLIMIT_CPU": spec["seconds"] + 60,  # the grader looks at it, too; starting takes its share
        "RLIMIT_FSIZE": spec["disk_mb"] << 20,
        "RLIMIT_NPROC": spec["processes"],
        "RLIMIT_NOFILE": 256,
        "RLIMIT_CORE": 0,
        # What is private and written to. The address space is larger: libraries are mapped, and
        # never touched.
        "RLIMIT_DATA": memory,
        "RLIMIT_AS": memory + (6 << 30),
    }
    for name, value in wanted.items():
        try:
            hard = resource.getrlimit(getattr(resource, name))[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(getattr(resource, name), (value, value))
        except (AttributeError, ValueError, OSError):
            if name in ("RLIMIT_DATA", "RLIMIT_AS"):
                return False
    return sys.platform == "linux"


def refuse_calls() -> bool:
    """From here on REFUSED fail with EPERM, in every process to come (seccomp(2)). False where this
    cannot be had."""
    if os.uname().machine not in MACHINES or struct.calcsize("P") != 8:
        return False
    column, machine = MACHINES[os.uname().machine]
    # A line of BPF is an opcode, how many lines to skip if true and if false, and a value.
    load, equal, at_least, end = 0x20, 0x15, 0x35, 0x06
    killed, allowed, eperm = 0x80000000, 0x7FFF0000, 0x00050001
    lines = [(load, 0, 0, 4), (equal, 1, 0, machine), (end, 0, 0, killed), (load, 0, 0, 0)]
    tests = [(at_least, 1 << 30)]  # calls of x32, a second set of numbers
    tests += [(equal, numbers[column]) for numbers in REFUSED.values()]
    lines += [(code, len(tests) - i, 0, value) for i, (code, value) in enumerate(tests)]
    lines += [(end, 0, 0, allowed), (end, 0, 0, eperm)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    pointer = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(lines), ctypes.addressof(program))
    )
    with contextlib.suppress(OSError):
        call("prctl", PR_SET_SECCOMP, 2, pointer, 0, 0)
        return True
    return False


def become(uid: int, gid: int) -> None:
    """Be this user for good."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def wait_for(child: int) -> int:
    """Reap until `child` ends, and all else that ends meanwhile; its exit status, 128 + the signal
    if one ended it."""
    while True:
        pid, status = os.wait()
        if pid == child:
            ended = os.waitstatus_to_exitcode(status)  # minus the signal, if one ended it
            return ended if ended >= 0 else 128 - ended


def forked(action: Callable[[], int]) -> int:
    """Do it in a child; the child's process id."""
    child = os.fork()
    if child:
        return child
    try:
        status = action()
    except BaseException as error:
        print(f"cage: {error}", file=sys.stderr, flush=True)
        status = 125
    os._exit(status)


def enter(spec: dict[str, Any]) -> int:
    """Enter the cage, report its bounds, run the command, and give its exit status."""
    linux = sys.platform == "linux"
    os.setsid()
    drops = can_become(spec["uid"])
    uid, gid = os.getuid() or spec["uid"], os.getgid() or spec["uid"]
    if linux:
        call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    bounds = separate(drops, uid, gid) if linux and spec["namespaces"] else set()

    def command() -> int:
        limited = limit(spec)
        if drops and "user" in bounds:
            become(uid, gid)
        if linux:
            call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)  # else its own /proc would be closed to it
        if "files" in bounds:
            forbid_namespaces(own=drops)
        if linux and refuse_calls() and limited:
            bounds.add("memory")
        os.write(spec["report"], (json.dumps(sorted(bounds)) + "\n").encode())
        os.close(spec["report"])
        home = HOME if "files" in bounds else spec["root"]
        environment = {**spec["environment"], "HOME": home, "TMPDIR": home + "/tmp"}
        os.execve(spec["command"][0], spec["command"], environment)

    def first() -> int:
        if "network" in bounds:
            call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            with contextlib.suppress(OSError):  # a container may forbid to mount
                build_root(spec["root"], spec["readable"], spec["disk_mb"], uid, gid)
                bounds.update(("files", "user"))
        if "files" not in bounds:
            with contextlib.suppress(OSError):  # what was begun
                call("umount2", spec["root"], MNT_DETACH)
            os.chdir(spec["root"])
            os.mkdir("tmp")
            if drops:
                os.chown(".", uid, gid)
                os.chown("tmp", uid, gid)
        above = Path(spec["command"][0]).resolve().parents
        if drops and all(os.stat(folder).st_mode & 1 for folder in above):
            bounds.add("user")  # where another user can reach this Python
        child = forked(command)
        os.close(spec["report"])
        for descriptor in spec["pass"]:
            os.close(descriptor)
        return wait_for(child)

    child = forked(first)
    os.close(spec["report"])
    for descriptor in spec["pass"]:
        os.close(descriptor)
    return wait_for(child)


if __name__ == "__main__":
    sys.exit(enter(json.loads(sys.argv[1])))
