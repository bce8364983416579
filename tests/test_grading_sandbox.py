"""The part to audit: what it imports, and that whatever a stranger sends is refused or harmless."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from minildm.grading import sandbox
from minildm.grading.sandbox.session import Died, Limits, Session
from minildm.grading.sandbox.wire import decode, encode

FOLDER = Path(str(sandbox.__file__)).parent
ORDER = re.findall(r"^    (\w+)", str(sandbox.__doc__), re.MULTILINE)


def imports(file: Path) -> set[str]:
    """All that a file imports, by its whole name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_its_docstring_says_in_which_order_to_read_it():
    assert sorted(ORDER) == sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


@pytest.mark.parametrize("name", ORDER)
def test_it_imports_nothing_else_of_the_package_and_a_file_only_those_before_it(name):
    above = ORDER[: ORDER.index(name)]
    for imported in imports(FOLDER / f"{name}.py"):
        if imported.startswith("minildm"):
            file = imported.removeprefix("minildm.grading.sandbox.").partition(".")[0]
            assert file in above, imported
        else:
            allowed = sys.stdlib_module_names | ({"numpy", "torch"} if name == "wire" else set())
            assert imported.partition(".")[0] in allowed, imported


def test_numbers_texts_lists_and_arrays_come_back_as_they_were_sent():
    sent = {"a": [1, 2.5, "three", None, True], "b": {"c": np.arange(6.0).reshape(2, 3)}}
    got = decode(encode(sent))
    assert got["a"] == sent["a"] and np.array_equal(got["b"]["c"], sent["b"]["c"])
    for dtype in (torch.float32, torch.float16, torch.int64, torch.bool):
        tensor = torch.tensor([[0, 1], [1, 1]], dtype=dtype)
        assert torch.equal(decode(encode(tensor)), tensor) and decode(encode(tensor)).dtype == dtype


@pytest.mark.parametrize(
    "sent",
    [
        {"array": 1},
        {"array": [1]},
        {"array": ["numpy", "object", [1], ""]},
        {"array": ["numpy", ["float32"], [0], ""]},
        {"array": [["numpy"], "float32", [0], ""]},
        {"array": ["numpy", "float32", [0], 3]},
        {"array": ["numpy", "float32", [2], "AAAA"]},
        {"array": ["numpy", "float32", [-1], ""]},
        {"array": ["numpy", "float32", [True], "AAAAAA=="]},
        {"array": ["numpy", "float32", [1] * 17, "AAAAAA=="]},
        {"array": ["numpy", "float32", [1], "not base64"]},
        {"dict": [1]},
        {"set": [1]},
        {"a": 1, "dict": {}},
    ],
    ids=str,
)
def test_what_encode_does_not_write_is_a_value_error(sent):
    with pytest.raises(ValueError):
        decode([{"dict": {"x": sent}}])


@pytest.mark.parametrize("status", [3, 200, 255])
def test_a_process_that_ends_says_with_which_status(status):
    with Session(Limits(seconds=20)) as session:
        with pytest.raises(Died, match=rf"its process ended by itself \(exit status {status}\)"):
            session.request("cell 1", 10, cell=f"import os\nos._exit({status})")
