"""Files that are written whole or not at all, and files that are checked before they are used: the
one place of the package that does either. Chapter 11."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CARD_ENTRY = "minildm"  # of a safetensors file's metadata: what is known of what it holds
LOCK_FILE = "in_use.lock"
CHECKSUMS = "SHA256SUMS"  # a folder's list of what its files are, as `sha256sum -c` reads it


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """The path of a file to write, which takes the place of `path` when all has gone well.

    Whatever goes wrong, what stood there before stays whole and no unfinished file is left behind.
    What the system refuses (a full disk, a missing folder) is an OSError that names `path`.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + ".partial")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        reason = error.strerror or error
        kept = "; what it held before is whole" if os.path.exists(path) else ""
        raise OSError(f"{path}: could not be written ({reason}){kept}") from error
    finally:
        with suppress(OSError):  # it has taken its place, or was never there
            unfinished.unlink()


@contextmanager
def whole(
    path: str | os.PathLike,
    mode: str = "wb",
    encoding: str | None = None,
    newline: str | None = None,
) -> Iterator[IO[Any]]:
    """`path`, open for writing, as `open(path, mode, …)`; see `replacing`."""
    with replacing(path) as unfinished:
        with open(unfinished, mode, encoding=encoding, newline=newline) as file:
            yield file


@contextmanager
def alone_in(folder: str | os.PathLike, wait: bool = False) -> Iterator[None]:
    """One process of this machine at a time writes into a folder, which is made if it is not there:
    a ValueError if another is at it, or `wait` for it. A process that is killed leaves no lock."""
    from filelock import FileLock, Timeout

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        raise ValueError(
            f"{folder}: expected a folder that nobody else writes to, got one that another "
            "training is writing to"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # it went with its folder, or Windows deletes no open file
            (folder / LOCK_FILE).unlink()
        lock.release()


def write_text(path: str | os.PathLike, text: str) -> None:
    """UTF-8 with Unix's line ends, whole or not at all."""
    with whole(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def write_json(
    path: str | os.PathLike, content: Mapping[str, object], ensure_ascii: bool = True
) -> None:
    """Write `content`, whole or not at all; `ensure_ascii` as for `json.dumps`.

    What JSON has no word for, NaN above all, is a ValueError that names its key.
    """
    if fault := _beyond_json(content):
        raise ValueError(f"{path}: expected what JSON can hold, got {fault}")
    write_text(path, json.dumps(content, indent=2, ensure_ascii=ensure_ascii) + "\n")


def _beyond_json(content: object, key: str = "") -> str:
    """What in `content` JSON has no word for, and under which key it lies; "" if there is nothing:
    Python would write NaN, which no other reader of JSON takes."""
    parts: Iterable[tuple[str, object]] = ()
    if isinstance(content, Mapping):
        parts = ((f"{key}.{name}" if key else str(name), part) for name, part in content.items())
    elif isinstance(content, (list, tuple)):
        parts = ((f"{key}[{i}]", part) for i, part in enumerate(content))
    elif isinstance(content, float) and not math.isfinite(content):
        return f"{content} as {key}"
    elif content is not None and not isinstance(content, (str, int, float)):
        return f"{_a(type(content).__name__)} as {key}"
    return next((fault for name, part in parts if (fault := _beyond_json(part, name))), "")


def shown(name: str) -> str:
    """A name from a file as an error's line has it: with all that breaks a line escaped, and not
    much of a very long one."""
    name = name if name.isprintable() else repr(name)
    return name if len(name) <= 200 else f"{name[:200]}…"


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def readable(path: str | os.PathLike, what: str) -> Path:
    """The path of a file that is there and may be read; else an OSError that names it, and `what`
    it should have been."""
    path = Path(path)
    try:
        if path.is_file():
            open(path, "rb").close()
            return path
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(f"{path}: could not be read ({reason}); expected {what}") from None
    raise FileNotFoundError(f"{path}: no such file; expected {what}")


def file_or_in(path: str | os.PathLike, name: str) -> Path:
    """`path` itself, if it is a file or is called like `name`, else the file `name` in the folder
    `path`."""
    path = Path(path)
    called_so = path.suffix == Path(name).suffix and not path.is_dir()
    return path if path.is_file() or called_so else path / name


def read_json(path: str | os.PathLike, what: str) -> dict[str, Any]:
    """The JSON object in a file; `what` tells an error's reader what it should have been."""
    path = readable(path, what)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected {what} as JSON, got: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected {what} as a JSON object, got {type(content).__name__}")
    return content


def write_tensors(
    path: str | os.PathLike,
    tensors: Mapping[str, Tensor],
    metadata: dict[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a safetensors file, whole or not at all; `dtype` (float16, say) is that of the file.

    Tensors that share their memory, as tied weights do, are written each in full.
    """
    import safetensors.torch  # here, since what writes no tensors needs no torch

    # channels-last tensors, too, are written in the order of their indices
    plain = {name: x.detach().to("cpu", dtype).contiguous() for name, x in tensors.items()}
    memory = Counter(x.untyped_storage().data_ptr() for x in plain.values())
    for name, x in plain.items():
        if memory[x.untyped_storage().data_ptr()] > 1:
            plain[name] = x.clone()
    with replacing(path) as unfinished:
        unfinished.touch()
        mode = unfinished.stat().st_mode
        try:
            safetensors.torch.save_file(plain, unfinished, metadata)
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from error
        # safetensors' own files are for their owner alone; ours are as the system has new ones
        unfinished.chmod(mode)


def read_tensors(path: str | os.PathLike, what: str) -> dict[str, Tensor]:
    """The tensors in a safetensors file, by name; `what` tells an error's reader what it should
    have been."""
    import safetensors.torch

    path = readable(path, f"{what} as safetensors")
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: expected a whole safetensors file, got: {error}") from None


def card_entry(card: Mapping[str, object] | None) -> dict[str, str]:
    """What a safetensors file keeps of a card beside its tensors: nothing, or one line of JSON."""
    return {} if card is None else {CARD_ENTRY: json.dumps(card)}


def read_metadata(path: str | os.PathLike, what: str) -> dict[str, str]:
    """What a safetensors file keeps beside its tensors; `what` as for `read_tensors`."""
    from safetensors import SafetensorError, safe_open

    path = readable(path, f"{what} as safetensors")
    try:
        with safe_open(path, "pt") as stored:
            return stored.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a whole safetensors file, got: {error}") from None


def read_card_entry(path: str | os.PathLike) -> dict[str, object]:
    """The card that a safetensors file keeps; {} if it has none, or one that is no JSON object."""
    text = read_metadata(path, "tensors with a card").get(CARD_ENTRY, "{}")
    try:
        card = json.loads(text)
    except (ValueError, RecursionError):
        card = {}
    return card if isinstance(card, dict) else {}


def checked(path: str | os.PathLike, algorithm: str, digest: str, mend: str) -> bytes:
    """The file's bytes, if they have the digest; an error says which command mends it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected {algorithm} {digest}, got none; mend it with: {mend}"
        )
    content = path.read_bytes()
    got = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if got != digest:
        raise ValueError(
            f"{path}: truncated or altered, expected {algorithm} {digest}, "
            f"got {got} ({len(content)} bytes); mend it with: {mend}"
        )
    return content


def read_checksums(folder: str | os.PathLike, mend: str) -> dict[str, str]:
    """What the folder's SHA256SUMS lists: file -> digest; `mend` as for `checked`."""
    path = Path(folder) / CHECKSUMS
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a list of checksums, got none; mend it with: {mend}"
        )
    digests = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split(maxsplit=1)
        if len(words) != 2 or len(words[0]) != 64:
            raise ValueError(
                f"{path}: expected lines of a sha256 and a file, got {line!r}; mend it with: {mend}"
            )
        digests[words[1].removeprefix("*")] = words[0]
    return digests


def write_checksums(folder: str | os.PathLike, names: Iterable[str]) -> None:
    """List these files of the folder, with what they hold now, in its SHA256SUMS."""
    folder = Path(folder)
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    lines = [f"{digest}  {name}\n" for name, digest in digests.items()]
    write_text(folder / CHECKSUMS, "".join(lines))
