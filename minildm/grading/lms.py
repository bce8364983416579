"""What Canvas, Moodle, Blackboard and nbgrader call what students have handed in.

Read off the programs that write these names:

    Canvas      lovelaceada_LATE_42_777_tiny-1.ipynb          name, user, attachment, file
                lovelaceada_42_text.html                      typed into its form
                LATE_anon_Ab1cD_777_tiny.ipynb                graded without names
    Moodle      Ada Lovelace_1001_assignsubmission_file_/     a folder; since 4.1 without the last _
                Ada Lovelace_1001_assignsubmission_onlinetext_/onlinetext.html
                Ada Lovelace_1001_assignsubmission_file_tiny.ipynb      without folders
    Blackboard  Homework 1_al42_attempt_2024-01-31-12-34-56_tiny.ipynb
                Homework 1_al42_attempt_2024-01-31-12-34-56.txt         its receipt: who, what typed
    nbgrader    al42/tiny/tiny.ipynb, with timestamp.txt
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from minildm.grading.sandbox.wire import plain
from minildm.grading.submission import Unreadable, opened

ANONYMOUS = re.compile(
    r"(?P<late>LATE_)?(?P<name>anon_[A-Za-z0-9]+)_(?:(?P<attachment>\d+)_(?P<file>.+)|text\.html)"
)
CANVAS = re.compile(
    r"(?P<name>.+?)(?P<late>_LATE)?_(?P<id>\d+)_"
    r"(?:(?P<attachment>\d+)_(?P<file>.+)|(?:text|link)\.html)"
)
MOODLE = re.compile(
    r"(?P<name>.+)_(?P<participant>\d+)_assignsubmission_(?P<plugin>file|onlinetext)(?:_(?P<file>.*))?"
)
BLACKBOARD = re.compile(
    r"(?P<above>.+?)_attempt_(?P<when>\d{4}(?:-\d\d){5})(?:_(?P<file>.+)|\.txt)", re.DOTALL
)
RECEIPT = re.compile(r"Name:[ \t]*(?P<name>[^\n]+?)[ \t]*\((?P<user>[^()\n]+)\)[ \t\r]*\n")
TYPED = re.compile(
    r"^(?:Submission Field|Comments):[ \t]*\n(?P<text>.*?)(?=^(?:Comments|Files):|\Z)",
    re.MULTILINE | re.DOTALL,
)
NOTHING_TYPED = re.compile(r"There (?:is|are) no student (?:submission|comment).*", re.DOTALL)
NBGRADERS_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)")
TAG = re.compile(r"<(?:(?:script|style)\b.*?</(?:script|style)\s*|[^>]*)>", re.DOTALL | re.I)
LINK = re.compile(r"""(?:url=|href=["'])([^"'\s<>]+)""", re.I)
# What systems and editors leave behind; all else that lies there is somebody's.
NOBODYS = re.compile(
    r"\._.*|\.DS_Store|__MACOSX|\.ipynb_checkpoints|\.git.*|\.~lock.*|\.nfs.*|\.Trash.*|Thumbs\.db"
)
TIMESTAMP = "timestamp.txt"
LONGEST_READ = 2**16  # bytes of a text that lies beside the notebooks


class HandedIn(NamedTuple):
    """A file: whose, what the student called it, when it came in ("" where that is unknown), and
    whether the LMS says late."""

    student: str
    path: Path
    file: str
    when: str = ""  # 2024-01-31 12:34:56, on the LMS's clock
    late: bool = False
    attachment: int = 0  # Canvas counts all that is uploaded
    typed: bool = False  # into the LMS's form: no file of the student's

    @property
    def age(self) -> tuple[str, int, float]:
        """Larger for what was handed in later."""
        return self.when, self.attachment, self.path.lstat().st_mtime


def handed_in(folder: Path) -> list[HandedIn]:
    """Whatever lies in a folder, in the order of its names; links are not followed."""
    users = blackboards_users(folder)
    found = []
    for path in sorted(folder.iterdir()):
        if NOBODYS.fullmatch(path.name):
            continue
        if path.is_symlink() or not path.is_dir():
            found.append(named(path, users))
        elif not MOODLE.fullmatch(path.name) and holds_students(path):
            found += handed_in(path)
        else:
            found += list(inside(path))
    return found


def holds_students(folder: Path) -> bool:
    """Whether a folder is no student's but what was downloaded from an LMS: it holds folders that
    Moodle has named, or nothing but files that an LMS has named after several students."""
    paths = [path for path in folder.iterdir() if not NOBODYS.fullmatch(path.name)]
    if any(MOODLE.fullmatch(path.name) for path in paths if path.is_dir()):
        return True
    schemes = (ANONYMOUS, CANVAS, MOODLE, BLACKBOARD)
    by_scheme = all(any(s.fullmatch(path.name) for s in schemes) for path in paths)
    return by_scheme and len({named(path, {}).student for path in paths}) > 1


def inside(folder: Path) -> Iterator[HandedIn]:
    """What lies in a student's folder; one entry without a file if nothing does."""
    moodle = MOODLE.fullmatch(folder.name)
    student = spelled(moodles_name(moodle) if moodle else folder.name)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    if not paths:
        yield HandedIn(student, folder, "")
    for path in paths:
        when = nbgraders_time(path.with_name(TIMESTAMP))
        typed = path.name == TIMESTAMP
        if moodle and moodle["plugin"] == "onlinetext":
            typed = path.suffix == ".html"
        yield HandedIn(student, path, path.name, when=when, typed=typed)


def named(path: Path, users: dict[str, str]) -> HandedIn:
    """A file that lies in no folder of a student's, read by its name."""
    if found := ANONYMOUS.fullmatch(path.name) or CANVAS.fullmatch(path.name):
        fields = found.groupdict()
        student = f"{found['name']}_{fields['id']}" if fields.get("id") else found["name"]
        return HandedIn(
            student=spelled(student),
            path=path,
            file=found["file"] or path.name,
            late=bool(found["late"]),
            attachment=int(found["attachment"] or 0),
            typed=not found["file"],
        )
    if found := MOODLE.fullmatch(path.name):
        typed = found["plugin"] == "onlinetext" and path.suffix == ".html"
        file = found["file"] or path.name
        return HandedIn(spelled(moodles_name(found)), path, file, typed=typed)
    if found := BLACKBOARD.fullmatch(path.name):
        date, clock = found["when"][:10], found["when"][11:].replace("-", ":")
        return HandedIn(
            student=spelled(users.get(found["above"]) or found["above"].rpartition("_")[2]),
            path=path,
            file=found["file"] or path.name,
            when=f"{date} {clock}",
            typed=not found["file"],
        )
    return HandedIn(spelled(path.stem), path, path.name)


def moodles_name(found: re.Match[str]) -> str:
    """A participant's name, one for files and typed text."""
    return f"{found['name']}_{found['participant']}_assignsubmission_file"


def spelled(student: str) -> str:
    """A student's name as tables have it: an accent and its letter are one, however a file system
    writes them, and nothing that a terminal obeys is left."""
    return unicodedata.normalize("NFC", plain(student, keep=""))


def blackboards_users(folder: Path) -> dict[str, str]:
    """What stands before `_attempt_` -> the user, from the receipts: a name with an underscore is
    told apart from the assignment's only there."""
    users = {}
    for path in sorted(folder.glob("*_attempt_*.txt")):
        found = BLACKBOARD.fullmatch(path.name)
        receipt = RECEIPT.match(read(path)) if found and not found["file"] else None
        if found and receipt and found["above"].endswith(f"_{receipt['user']}"):
            users[found["above"]] = receipt["user"]
    return users


def nbgraders_time(path: Path) -> str:
    """When a submission came in, as nbgrader notes it beside the notebooks."""
    found = NBGRADERS_TIME.match(read(path))
    return f"{found[1]} {found[2]}" if found else ""


def typed_text(path: Path) -> str:
    """What a student typed into an LMS's form, without its mark-up; "" if nothing."""
    text = read(path)
    if path.name.endswith("_link.html") and (link := LINK.search(text)):
        text = link[1]
    if path.suffix == ".txt":
        typed = [NOTHING_TYPED.sub("", found["text"]) for found in TYPED.finditer(text)]
        text = " ".join(typed) if RECEIPT.match(text) else ""
    return " ".join(plain(html.unescape(TAG.sub(" ", text))).split())


def read(path: Path) -> str:
    """The beginning of a stranger's text, "" if it cannot be read."""
    try:
        with opened(path) as file:
            return file.read(LONGEST_READ).decode("utf-8", errors="replace").removeprefix("\ufeff")
    except Unreadable:
        return ""
