"""Files: whole or not at all, and checked before they are used."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from minildm.files import (
    alone_in,
    checked,
    read_checksums,
    read_json,
    read_tensors,
    replacing,
    shown,
    whole,
    write_checksums,
    write_json,
    write_tensors,
    write_text,
)

FULL = OSError(errno.ENOSPC, "No space left on device")


def full(*_, **__):
    raise FULL


@pytest.fixture
def file(tmp_path):
    """A file that holds something already, alone in its folder."""
    path = tmp_path / "file"
    path.write_text("old")
    return path


def is_as_before(file):
    return file.read_text() == "old" and [path.name for path in file.parent.iterdir()] == ["file"]


def test_the_new_content_takes_the_place_of_the_old_at_the_end_and_not_before(file):
    with whole(file) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_text() == "old"
    assert file.read_text() == "new" and len(list(file.parent.iterdir())) == 1


ENDS = [
    ValueError("ours"),
    RuntimeError("theirs"),
    MemoryError(),
    KeyboardInterrupt(),
    SystemExit(1),
]


@pytest.mark.parametrize("error", ENDS)
def test_whatever_ends_the_writing_leaves_the_old_file_and_nothing_else(file, error):
    with pytest.raises(type(error)) as raised:
        with whole(file) as stream:
            stream.write(b"half")
            raise error
    assert raised.value is error and is_as_before(file)


WRITERS = {
    "text": lambda path: write_text(path, "new"),
    "json": lambda path: write_json(path, {"a": 1}),
    "tensors": lambda path: write_tensors(path, {"a": torch.zeros(2)}),
}


@pytest.mark.parametrize("writer", ["text", "json", "tensors"])
def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_the_old_one(
    file, monkeypatch, writer
):
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError) as error:
        WRITERS[writer](file)
    expected = "could not be written (No space left on device); what it held before is whole"
    assert str(error.value) == f"{file}: {expected}" and is_as_before(file)


def test_of_a_file_that_was_not_there_nothing_is_said_to_be_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError) as error:
        write_text(tmp_path / "new", "text")
    assert str(error.value) == f"{tmp_path / 'new'}: could not be written (No space left on device)"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [FULL, SafetensorError("No space left on device")])
def test_a_full_disk_in_the_middle_of_tensors_leaves_the_old_file(file, monkeypatch, error):
    def half(tensors, path, metadata):
        path.write_bytes(b"half of i")
        raise error

    monkeypatch.setattr("safetensors.torch.save_file", half)
    with pytest.raises(OSError, match="file: could not be written .No space left.*is whole"):
        write_tensors(file, {"a": torch.zeros(2)})
    assert is_as_before(file)


@pytest.mark.parametrize("error", ENDS)
def test_whatever_ends_the_writing_of_tensors_leaves_the_old_file_and_nothing_else(
    file, monkeypatch, error
):
    def half(tensors, path, metadata):
        path.write_bytes(b"half of i")
        raise error

    monkeypatch.setattr("safetensors.torch.save_file", half)
    with pytest.raises(type(error)):
        write_tensors(file, {"a": torch.zeros(2)})
    assert is_as_before(file)


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_tensors_that_share_their_memory_are_written_each_in_full(tmp_path, dtype):
    table = torch.randn(6, 4)
    tied = {
        "tokens": torch.nn.Parameter(table),
        "head": table,
        "its transpose": table.T,
        "a row": table[2],
        "half of it": table[:3],
        "spread": table[:1].expand(5, 4),
        "a number": table[0, 0],
        "apart": torch.randn(3),
        "empty": table[:0],
    }
    write_tensors(tmp_path / "a.safetensors", tied, dtype=dtype)
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == tied.keys()
    for name, tensor in tied.items():
        assert torch.equal(read[name], tensor.detach().to(dtype or torch.float32)), name
    assert torch.equal(tied["head"], table) and tied["head"].data_ptr() == table.data_ptr()


@pytest.mark.skipif(os.name != "posix", reason="lengths are the system's")
@pytest.mark.parametrize("writer", ["text", "json", "tensors"])
@pytest.mark.parametrize("length", [250, 300])
def test_a_name_that_is_too_long_is_an_error_that_names_the_file(file, writer, length):
    target = file.parent / (length * "x")
    with pytest.raises(OSError) as error:
        WRITERS[writer](target)
    assert str(error.value) == f"{target}: could not be written (File name too long)"
    assert is_as_before(file)


@pytest.mark.parametrize("writer", ["text", "tensors"])
@pytest.mark.parametrize("parent", ["missing", "file"])
def test_a_folder_that_is_none_is_named_with_the_file(file, writer, parent):
    target = file.parent / parent / "new"
    with pytest.raises(OSError) as error:
        WRITERS[writer](target)
    assert str(error.value).startswith(f"{target}: could not be written (")
    assert is_as_before(file)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("writer", ["text", "json", "tensors"])
def test_a_new_file_may_be_read_by_whom_the_system_says(tmp_path, writer):
    before = os.umask(0o022)
    try:
        WRITERS[writer](tmp_path / "new")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o644


def test_text_has_the_same_bytes_on_every_system(tmp_path):
    write_text(tmp_path / "a.txt", "né\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == b"n\xc3\xa9\nb\n"


def test_json_comes_back_and_may_keep_its_letters(tmp_path):
    write_json(tmp_path / "a.json", {"é": [1, None]})
    assert (tmp_path / "a.json").read_bytes().isascii()
    assert read_json(tmp_path / "a.json", "a test") == {"é": [1, None]}
    write_json(tmp_path / "a.json", {"é": 1}, ensure_ascii=False)
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n  "é": 1\n}\n'


def test_json_that_is_missing_or_broken_is_named_with_what_it_should_have_been(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match="a.json: no such file; expected a test's record"):
        read_json(path, "a test's record")
    for content in ("{", "\x00", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(ValueError, match="a.json: expected a test's record as JSON, got: "):
            read_json(path, "a test's record")
    path.write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="expected a test's record as a JSON object, got list"):
        read_json(path, "a test's record")


def test_channels_last_tensors_are_written_and_come_back(tmp_path):
    tensor = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    write_tensors(tmp_path / "a.safetensors", {"a": tensor})
    assert torch.equal(load_file(tmp_path / "a.safetensors")["a"], tensor)


def test_a_path_to_write_to_is_beside_the_file(file):
    with replacing(file) as unfinished:
        assert unfinished.parent == file.parent and unfinished != file
        unfinished.write_text("new")
    assert file.read_text() == "new"


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_checked_gives_the_bytes_that_have_the_digest(file, algorithm):
    assert checked(file, algorithm, hashlib.new(algorithm, b"old").hexdigest(), "make it") == b"old"


def test_a_missing_or_altered_file_is_named_with_both_digests_and_the_command(file):
    right, got = (hashlib.sha256(content).hexdigest() for content in (b"new", b"old"))
    with pytest.raises(ValueError) as error:
        checked(file, "sha256", right, "make it")
    assert str(error.value) == (
        f"{file}: truncated or altered, expected sha256 {right}, got {got} (3 bytes); "
        "mend it with: make it"
    )
    file.unlink()
    with pytest.raises(FileNotFoundError) as error:
        checked(file, "sha256", right, "make it")
    assert str(error.value) == (f"{file}: expected sha256 {right}, got none; mend it with: make it")


def test_checksums_are_sha256sums(tmp_path):
    (tmp_path / "folder").mkdir()
    contents = {"a.txt": b"a", "folder/b c.txt": b"b"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    write_checksums(tmp_path, contents)
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert read_checksums(tmp_path, "make it") == expected
    if shutil.which("sha256sum"):
        done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stderr
    binary = (tmp_path / "SHA256SUMS").read_text().replace("  ", " *")
    (tmp_path / "SHA256SUMS").write_text(binary)  # as `sha256sum --binary` writes it
    assert read_checksums(tmp_path, "make it") == expected


@pytest.mark.parametrize("line", ["", "one two", f"{'0' * 64}", f"{'0' * 63}  file"])
def test_a_damaged_list_of_checksums_is_refused_whole(tmp_path, line):
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  file\n{line}\n{'0' * 64}  other\n")
    with pytest.raises(ValueError, match="SHA256SUMS: expected lines .* mend it with: make it"):
        read_checksums(tmp_path, "make it")
    (tmp_path / "SHA256SUMS").unlink()
    with pytest.raises(FileNotFoundError, match="SHA256SUMS: .* mend it with: make it"):
        read_checksums(tmp_path, "make it")


def test_files_needs_no_torch():
    code = "import sys, minildm.files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"loss": NAN}, "nan as loss"),
        ({"loss": -INF}, "-inf as loss"),
        ({"stages": {"vae": [0.5, {"kl": INF}]}}, "inf as stages.vae[1].kl"),
        ({"rows": (1, NAN)}, "nan as rows[1]"),
        ({"x": np.float32(1)}, "a float32 as x"),
        ({"x": {1, 2}}, "a set as x"),
        ({"x": torch.zeros(1)}, "a Tensor as x"),
        ({"x": [b"a"]}, "a bytes as x[0]"),
    ],
)
def test_what_json_cannot_hold_is_named_by_file_and_key_and_leaves_the_old_file(
    file, content, fault
):
    with pytest.raises(ValueError) as error:
        write_json(file, content)
    assert str(error.value) == f"{file}: expected what JSON can hold, got {fault}"
    assert is_as_before(file)


def test_all_that_json_can_hold_is_written(tmp_path):
    content = {"a": [1, 2.5, -1e300, "NaN", None, True, {"b": []}], "c": {}}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json", "a test") == content
    write_json(tmp_path / "a.json", {1: (2, np.float64(0.5))})  # keys become texts, as json has it
    assert read_json(tmp_path / "a.json", "a test") == {"1": [2, 0.5]}


def denied(*args, **kwargs):
    raise PermissionError(errno.EACCES, "Permission denied")


READERS = {
    "json": (read_json, "a test's record"),
    "tensors": (read_tensors, "a test's record as safetensors"),
}


@pytest.mark.parametrize("reader", ["json", "tensors"])
@pytest.mark.parametrize("where", ["builtins.open", "pathlib.Path.is_file"])
def test_a_file_that_may_not_be_read_is_not_said_to_be_absent(file, monkeypatch, reader, where):
    read, what = READERS[reader]
    with monkeypatch.context() as patch:
        patch.setattr(where, denied)
        with pytest.raises(PermissionError) as error:
            read(file, "a test's record")
    expected = f"{file}: could not be read (Permission denied); expected {what}"
    assert str(error.value) == expected


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
@pytest.mark.parametrize("reader", ["json", "tensors"])
def test_so_it_is_on_a_real_disk(file, reader):
    file.chmod(0)
    with pytest.raises(PermissionError, match=f"^{file}: could not be read .Permission denied.;"):
        READERS[reader][0](file, "a test's record")


def test_tensors_that_are_missing_or_broken_are_named_with_what_they_should_have_been(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="a.safetensors: no such file; expected a map as s"):
        read_tensors(path, "a map")
    write_tensors(path, {"a": torch.arange(3.0)})
    assert torch.equal(read_tensors(path, "a map")["a"], torch.arange(3.0))
    for content in (
        b"",
        b"\0" * 8,
        b"\xff" * 100,
        path.read_bytes()[:-1],
        path.read_bytes() + b"0",
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="a.safetensors: expected a whole safetensors file"):
            read_tensors(path, "a map")


HOLDS = """
import sys
from pathlib import Path
from minildm.files import alone_in

with alone_in(Path(sys.argv[1])):
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_writes_into_a_folder_and_a_killed_one_leaves_it_free(tmp_path):
    folder = tmp_path / "run"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDS, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout.readline() == "holds\n"
        with pytest.raises(ValueError, match=f"{folder}: expected a folder that nobody else"):
            with alone_in(folder):
                pass
        other.kill()
    with alone_in(folder):
        pass
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [("a.b", "a.b"), ("a\nb", r"'a\nb'"), ("", ""), ("é", "é"), ("\x1b[2J", r"'\x1b[2J'")],
)
def test_a_name_from_a_file_breaks_no_line(name, told):
    assert shown(name) == told


def test_of_a_very_long_name_the_beginning_is_told():
    assert shown("x" * 201) == "x" * 200 + "…" and shown("x" * 200) == "x" * 200
