"""What `abuse.py` throws at whole folders: a training with one file altered, and a class with a
notebook, a result or a name that nobody expects. As in `abuse_surfaces.py`, what has to come of an
input is known here."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import signal
import struct
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from random import Random
from unittest.mock import patch

import torch
from abuse_surfaces import (
    NAN,
    OF_JSON,
    Ended,
    Input,
    World,
    command_fault,
    kind_of,
    run_command,
)
from safetensors.torch import load_file, save_file
from submissions import cell, filled_in, source_notebook

from minildm.grading import cli as grader
from minildm.grading import find_submissions, grade_all, load_assignments, student_version
from minildm.training import Trainer

STEPS = "2,4,3"
TRAIN = ("train", "--preset", "tiny", "--steps", STEPS)
RECORD, STATE = "training.json", "training_state.safetensors"


# --------------------------------------------------------------------------------------------------
# training folders


class Trainings:
    """Two trainings with the same arguments: one was stopped in its second stage, one is done."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.stopped, self.done = folder / "stopped", folder / "done"
        folder.mkdir()
        steps = iter(range(10**6))

        def stop(step: int, ema: object) -> None:
            if next(steps) == 3:
                signal.raise_signal(signal.SIGINT)

        with patch.object(Trainer, "after_step", staticmethod(stop)):
            ended = run_command([*TRAIN, "--out", str(self.stopped)], folder)
        assert ended.status == 130 and (self.stopped / STATE).is_file(), ended
        ended = run_command([*TRAIN, "--out", str(self.done)], folder)
        assert ended.status == 0, ended
        self.weights = load_weights(self.done)

    def copy(self, of: Path) -> Path:
        place = self.folder / "copy"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(of, place)
        return place


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.parent.name}.{name}": tensor
        for file in sorted(folder.glob("*/*.safetensors"))
        for name, tensor in load_file(file).items()
    }


Change = tuple[str, bool | None, Callable[[Path], object]]
"""In words; whether going on has to work; what does it to a folder."""


def of_record(rng: Random, folder: Path) -> Change:
    """training.json with an entry of another kind, or as no JSON."""
    if rng.random() < 0.15:
        raw = rng.choice([b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"[" * 50_000, b"\0"])
        return f"{RECORD}: {raw[:9]!r}", False, lambda place: (place / RECORD).write_bytes(raw)
    content = json.loads((folder / RECORD).read_text("utf-8"))
    key = rng.choice([*sorted(content), "snapshot", "data"])
    before = content.get(key)
    inside = isinstance(before, dict) and before and rng.random() < 0.5
    value, within = rng.choice(OF_JSON), rng.choice(sorted(before)) if inside else ""
    content[key] = {**before, within: value} if inside else value
    right: bool | None = None
    if key in ("seed", "threads", "finished", "steps", "losses", "seconds", "recipe"):
        if not inside and kind_of(value) != kind_of(before):
            right = False
    raw = json.dumps(content).encode()
    told = f"{RECORD}: {key}{f'.{within}' if inside else ''} = {json.dumps(value)[:40]}"
    return told, right, lambda place: (place / RECORD).write_bytes(raw)


def of_tensors(rng: Random, folder: Path) -> Change:
    """The state, or a finished stage's weights: cut, empty, of other shapes or kinds, with NaN."""
    files = sorted(file.name for file in folder.glob("*.safetensors"))
    file = rng.choice(files)
    whole = (folder / file).read_bytes()
    which = rng.randrange(7)
    if which == 0:
        raw = whole[: rng.choice([0, 1, 8, len(whole) // 2, len(whole) - 1])]
        return f"{file}: cut to {len(raw)}", False, lambda place: (place / file).write_bytes(raw)
    if which == 1:
        raw = struct.pack("<Q", rng.choice([0, 2, 2**40, 2**63])) + whole[8:]
        return f"{file}: a header of {raw[:8].hex()}", False, partial(write, file, raw)
    if which == 2:
        other = rng.choice([name for name in files if name != file])
        return f"{file} is {other}", False, lambda place: shutil.copy(place / other, place / file)
    tensors = load_file(folder / file)
    name = rng.choice(sorted(tensors))
    tensor = tensors[name]
    if which == 3:
        del tensors[name]
        told = f"without {name}"
    elif which == 4:
        tensors[name] = tensor[None].clone()
        told = f"{name} of shape {tuple(tensors[name].shape)}"
    elif which == 5:
        kinds = [torch.int64, torch.bool, torch.complex64]
        tensors[name] = tensor.to(rng.choice([kind for kind in kinds if kind != tensor.dtype]))
        told = f"{name} as {tensors[name].dtype}"
    else:
        tensors[name] = torch.full_like(tensor.float(), NAN).to(tensor.dtype)
        told = f"{name} all NaN"
    right = None if which == 6 and not tensor.is_floating_point() else False

    def save(place: Path) -> None:
        from safetensors import safe_open

        with safe_open(place / file, "pt") as stored:
            about = stored.metadata()
        save_file(tensors, place / file, about)

    return f"{file}: {told}", right, save


def write(file: str, raw: bytes, place: Path) -> None:
    (place / file).write_bytes(raw)


def of_files(rng: Random, folder: Path) -> Change:
    """A file that is missing, or that should not be there."""
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    name = rng.choice(names)
    which = rng.randrange(4)
    if which == 0:
        # a state that is missing costs its steps; a record or a stage cannot be had again
        right = {STATE: True, "in_use.lock": True}.get(name, None if "model" in name else False)
        return f"without {name}", right, lambda place: (place / name).unlink()
    if which == 1:

        def as_folder(place: Path) -> None:
            (place / name).unlink()
            (place / name).mkdir()

        return f"{name} is a folder", None if name == "in_use.lock" else False, as_folder
    if which == 2:
        other = rng.choice(["notes.txt", ".DS_Store", "x.safetensors", STATE + ".partial"])
        return f"also {other}", True, partial(write, other, b"x")
    part = rng.choice(["vae", "unet", "text_encoder", "tokenizer", "scheduler"])

    def in_the_way(place: Path) -> None:
        shutil.rmtree(place / part, ignore_errors=True)
        (place / part).write_bytes(b"x")

    return f"{part} is a file", False, in_the_way


def trainings(rng: Random, world: World) -> Input:
    """A training with one file altered: it goes on to the very same weights, or says in a line why
    not; what is unfinished draws nothing."""
    which = rng.random()
    stopped = which < 0.75
    kind = of_files if not stopped else rng.choice([of_record, of_tensors, of_files])
    if not stopped and rng.random() < 0.5:
        kind = of_record
    number = rng.random()  # all that is random is drawn before the trainings are made
    state = rng.getstate()

    def planned() -> tuple[Change, list[str]]:
        made = trainings_of(world)
        own = Random()
        own.setstate(state)
        folder = made.stopped if stopped else made.done
        change = kind(own, folder)
        place = str(made.folder / "copy")
        words = [*TRAIN, "--out", place, "--resume"]
        if stopped and number < 0.1:
            words = words[:-1]  # without --resume: it holds a training already
        elif stopped and number < 0.2:
            words = ["sample", "the digit 3", "--model", place, "--steps", "1"]
        elif not stopped and number < 0.5:
            words = ["sample", "the digit 3", "--model", place, "--steps", "1"]
        return change, words

    (told, right, alter), words = planned()
    if stopped and words[0] == "sample":
        right = False
    elif stopped and "--resume" not in words:
        right = None if told in (f"without {RECORD}",) else False
    elif not stopped:
        right = None
    made = trainings_of(world)

    def act() -> Ended:
        place = made.copy(made.stopped if stopped else made.done)
        alter(place)
        return run_command(words, made.folder)

    def fault(ended: Ended) -> str:
        if wrong := command_fault(right, ended):
            return wrong
        if ended.status or "--resume" not in words or "all NaN" in told:
            return ""
        got = load_weights(made.folder / "copy")
        same = got.keys() == made.weights.keys() and all(
            torch.equal(tensor, made.weights[name]) for name, tensor in got.items()
        )
        return "" if same else "went on to other weights"

    name = "stopped" if stopped else "done"
    return Input(f"{name}, {told}: {' '.join(words[:1] + words[-1:])}", act, right, fault)


def trainings_of(world: World) -> Trainings:
    """Made when the first input needs them."""
    if not hasattr(world, "trainings"):
        vars(world)["trainings"] = Trainings(world.folder / "trainings")
    return vars(world)["trainings"]


# --------------------------------------------------------------------------------------------------
# submissions


class Classroom:
    """An assignment, its key, two students whose submissions are graded, and a roster."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.source, self.key = folder / "source", folder / "course.key"
        self.source.mkdir(parents=True)
        (self.source / "tiny.ipynb").write_text(json.dumps(source_notebook()))
        self.key.write_text("key")
        self.assignments = load_assignments(self.source, "key")
        released = json.loads(json.dumps(student_version(self.assignments["tiny"])))
        self.right = filled_in(
            released,
            scale="def scale(x):\n    return FACTOR * x",
            total="def total(x):\n    return x.sum()",
        )
        for student in ("ada", "bo"):
            hand_in(self.students, student, json.dumps(self.right).encode())
        found = find_submissions(self.students, self.assignments)
        graded = grade_all(found, self.assignments, self.graded, jobs=1)
        assert all(result.score == 8 for result in graded.values()), graded

    @cached_property
    def students(self) -> Path:
        return self.folder / "in"

    @cached_property
    def graded(self) -> Path:
        return self.folder / "graded"

    def copy(self) -> tuple[Path, Path]:
        """The students' folder and that of their grades, to be spoilt."""
        places = self.folder / "copy" / "in", self.folder / "copy" / "out"
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        shutil.copytree(self.students, places[0])
        shutil.copytree(self.graded, places[1])
        return places


def hand_in(folder: Path, student: str, content: bytes) -> None:
    (folder / student).mkdir(parents=True)
    (folder / student / "tiny.ipynb").write_bytes(content)


def classroom_of(world: World) -> Classroom:
    """Made when the first input needs it."""
    if not hasattr(world, "classroom"):
        vars(world)["classroom"] = Classroom(world.folder / "classroom")
    return vars(world)["classroom"]


Spoil = tuple[str, bool | None, Callable[[Path, Path], object], list[str]]
"""In words; whether the class is graded; what is done to both folders; more options."""

NAMES = ["Zoë", "Zoe\u0308", ".dot", "...", "a b", "x" * 200, "new\nline", "\x1b[2J", "=1+1", "-"]
NAMES += ["Ada_1_assignsubmission_file", "Ada_1_assignsubmission_file_", "ада", "🙂", "%s", "con"]
NAMES += ["~", "'"]
NO_NOTEBOOKS = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b"\x80\x04.", b"\0"]
ANSWERS = ["np.ones(1)", "np.ones((5, 1))", "np.ones((1, 400_000))", "None", "'x' * 10**7", "[[]]"]
ANSWERS += ["{'a': 1}", "np.ones(0)", "x + np.nan", "1j * x", "object()", "np.ones(10**7)"]
ANSWERS += ["list(range(2 * 10**6))", "np.array(['a'])", "x.astype('M8[s]')", "float('inf')"]
POINTS = ["", "1", "2,0", "nan", "-1", "3", "x", "inf", "1e400", "٣", "=1", "1 "]


def a_name(rng: Random, room: Classroom) -> Spoil:
    """A student whose folder has an odd name, and nothing in it that could be graded."""
    name = rng.choice(NAMES) + rng.choice(["", "", "2", "_x"])
    file = rng.choice(["notes.txt", "tiny.ipynb.pdf", "", ".hidden"])

    def spoil(students: Path, out: Path) -> None:
        (students / name).mkdir()
        if file:
            (students / name / file).write_bytes(b"x")

    return f"a student called {name[:20]!r} with {file or 'nothing'}", True, spoil, []


def a_notebook(rng: Random, room: Classroom) -> Spoil:
    """A file that is no notebook, or not one of ours."""
    text = json.dumps(room.right).encode()
    content = json.loads(text)
    which = rng.randrange(4)
    if which == 0:
        raw = rng.choice(NO_NOTEBOOKS)
    elif which == 1:
        raw = text[: rng.randrange(len(text))]
    elif which == 2:
        key = rng.choice(["cells", "metadata"])
        content[key] = rng.choice([v for v in OF_JSON if kind_of(v) != kind_of(content[key])])
        raw = json.dumps(content).encode()
        if key == "metadata":  # which need not be there
            content["cells"] = []
            raw = json.dumps(content).encode()
    else:
        one = rng.choice(content["cells"])
        one["source"] = rng.choice([v for v in OF_JSON if not isinstance(v, (str, list))])
        raw = json.dumps(content).encode()
    return (
        f"a notebook of {raw[:30]!r} ({len(raw)} bytes)",
        True,
        lambda students, out: hand_in(students, "cy", raw),
        [],
    )


def an_answer(rng: Random, room: Classroom) -> Spoil:
    """A notebook that runs, whose answer is too large, of another shape, or nothing at all."""
    answer = rng.choice(ANSWERS)
    odd = filled_in(room.right, scale=f"def scale(x):\n    return {answer}")
    for one in odd["cells"]:
        if rng.random() < 0.2:
            key = rng.choice(["metadata", "outputs", "id", "attachments", "execution_count"])
            one[key] = rng.choice(OF_JSON)
    if rng.random() < 0.3:
        odd["cells"][0]["attachments"] = {"a.png": {"image/png": "A" * 5 * 10**6}}
    odd["cells"].append(cell("%matplotlib inline\n!ls\n?x"))
    raw = json.dumps(odd).encode()
    return f"an answer {answer}", True, lambda students, out: hand_in(students, "cy", raw), []


def a_result(rng: Random, room: Classroom) -> Spoil:
    """What was kept of a student who is not graded now, damaged."""
    kept = json.loads((room.graded / "tiny" / "bo.json").read_text("utf-8"))
    raw = json.dumps(kept).encode()
    if rng.random() < 0.3:
        raw = rng.choice([*NO_NOTEBOOKS, raw[: rng.randrange(len(raw))]])
        told = repr(raw[:20])
    else:
        key, value = rng.choice(sorted(kept)), rng.choice(OF_JSON)
        kept[key], told = value, f"{key} = {json.dumps(value)[:30]}"
        if isinstance(kept[key], list) and rng.random() < 0.5:
            kept[key] = [value]
        raw = json.dumps(kept).encode()

    def spoil(students: Path, out: Path) -> None:
        shutil.rmtree(students / "bo")
        (out / "tiny" / "bo.json").write_bytes(raw)

    return f"bo's result: {told}", True, spoil, []


def a_file(rng: Random, room: Classroom) -> Spoil:
    """A key, a roster, a table of marks or a place for the grades that is none."""
    copy = room.folder / "copy"
    raw = rng.choice([b"", b" \n", b"\xff\xfe", b"\0", b"[" * 9, b"a,b\n1,2\n", b"student\n\xff\n"])
    which = rng.randrange(6)
    nothing: Callable[[Path, Path], object] = lambda students, out: None  # noqa: E731
    if which == 0:
        right = None if raw.strip() and raw != b"\xff\xfe" else False
        return (
            f"a key {raw!r}",
            right,
            lambda students, out: (copy / "k").write_bytes(raw),
            ["--key-file", str(copy / "k")],
        )
    if which == 1:
        option = rng.choice(["--key-file", "--roster", "--source"])
        place = rng.choice([copy / "nowhere", copy / "in", Path("/dev/null"), Path("")])
        return f"{option} {place.name!r}", False, nothing, [option, str(place)]
    if which == 2:
        right = False if b"student" not in raw or b"\xff" in raw else None
        return (
            f"a roster {raw!r}",
            right,
            lambda students, out: (copy / "r.csv").write_bytes(raw),
            ["--roster", str(copy / "r.csv")],
        )
    if which == 3:
        head = "student,assignment,question,points,points_max,answer,note\n"
        row = f'ada,tiny,why,"{rng.choice(POINTS)}",2,,\n'
        content = rng.choice([raw, (head + row).encode(), (head + row + "a,b\n").encode()])
        return (
            f"written.csv {content[-24:]!r}",
            None,
            lambda students, out: (out / "written.csv").write_bytes(content),
            [],
        )
    if which == 4:
        place = rng.choice([copy / "k", copy / "k" / "below", Path("/dev/null"), Path("/proc/x")])
        return (
            f"--out {place}",
            False,
            lambda students, out: (copy / "k").write_bytes(b"x"),
            ["--out", str(place)],
        )
    option = rng.choice(["--jobs", "--assignment", "--unknown", "--key"])
    value = rng.choice(["", "0", "-1", "x", "1e3", str(10**20), "\x00", "nan", "'"])
    right = None if option == "--key" and value.strip() else False
    if option == "--key" and not value:
        right = True  # as if it were not given: there is the file
    return f"{option}={value!r}", right, nothing, [f"{option}={value}"]


def submissions(rng: Random, world: World) -> Input:
    """A class in which one thing is odd: it is graded all the same, or a line says why not."""
    kinds = [a_name, a_notebook, a_result, a_file, a_file]
    kind = rng.choice(kinds * 3 + [an_answer])
    room = classroom_of(world)
    told, right, spoil, more = kind(rng, room)
    copy = room.folder / "copy"
    words = ["grade", str(copy / "in"), "--source", str(room.source), "--out", str(copy / "out")]
    words += ["--key-file", str(room.key), "--jobs", "1", *more]

    def act() -> Ended:
        spoil(*room.copy())
        return run_grader(words, copy)

    def fault(ended: Ended) -> str:
        if wrong := command_fault(right, ended, "minildm-grade:"):
            return wrong
        if ended.status or kind is a_file:
            return ""
        with open(copy / "out" / "grades.csv", encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        if len(rows) != 3 - (kind is a_result):
            return f"{len(rows)} rows: {[row['student'][:20] for row in rows]}"
        points = {row["student"]: row["automatic"] for row in rows}
        if points.pop("ada") != "8":
            return "ada has no longer 8 points"
        points.pop("bo", None)
        if kind is an_answer:
            return "" if [*points.values()] == ["5"] else f"{points} instead of 5"
        odd = kind in (a_name, a_notebook) and any(points.values())
        return f"points for what cannot be graded: {points}" if odd else ""

    return Input(told, act, right, fault)


def run_grader(words: Sequence[str], folder: Path) -> Ended:
    """`minildm-grade` in this process. What this machine cannot bound is no matter of the input."""
    with patch.object(grader, "unbounded", dict), contextlib.redirect_stdout(None):
        return run_command(words, folder, grader.app)


SURFACES: dict[str, tuple[Callable[[Random, World], Input], float]] = {
    "trainings": (trainings, 0.008),
    "submissions": (submissions, 0.012),
}
"""Surface -> what makes an input, and its share of them; shares are small, since each is slow."""
