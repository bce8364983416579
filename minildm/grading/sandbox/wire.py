"""How the grader and a submission's process talk: lines of JSON, arrays as their bytes. Nothing is
ever unpickled.

What comes back from a submission is data written by a stranger: `decode` takes numbers, texts,
lists, dictionaries and arrays of plain dtypes, checks every length, and calls nothing.
"""

from __future__ import annotations

import base64
import json
import math
import sys
import unicodedata
from typing import Any

import numpy as np

LONGEST_LINE = 32 * 2**20
# Of lists and dictionaries: an empty list of three bytes takes seventy when it is read.
MOST_ITEMS = 2**20
DTYPES = {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"}


def encode(value: Any) -> Any:
    """What JSON can hold: tensors and arrays become {"array": [kind, dtype, shape, bytes in
    base64]}.

    A ValueError says what cannot be sent.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {"dict": {str(key): encode(item) for key, item in value.items()}}
    kind = "numpy"
    if (torch := sys.modules.get("torch")) is not None and isinstance(value, torch.Tensor):
        kind, value = "torch", value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).contiguous().numpy()
    if isinstance(value, np.generic):
        kind, value = "numpy", np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.name not in DTYPES:
        raise ValueError(
            f"expected numbers, texts, tensors or lists of them, got {type(value).__name__}"
        )
    data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
    return {"array": [kind, value.dtype.name, list(value.shape), data]}


def decode(value: Any) -> Any:
    """The other way round; a ValueError for whatever `encode` does not write."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [decode(item) for item in value]
    if isinstance(value, dict) and set(value) == {"dict"} and isinstance(value["dict"], dict):
        return {key: decode(item) for key, item in value["dict"].items()}
    if isinstance(value, dict) and set(value) == {"array"}:
        return read_array(value["array"])
    raise ValueError("expected what `encode` writes")


def read_array(parts: Any) -> Any:
    """An array or tensor from [kind, dtype, shape, bytes]; its length must fit its shape."""
    if not isinstance(parts, list) or len(parts) != 4:
        raise ValueError("expected the four parts of an array")
    kind, dtype, shape, data = parts
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError("expected an array of numbers")
    if kind not in ("numpy", "torch") or not isinstance(data, str):
        raise ValueError("expected an array of numbers")
    if not isinstance(shape, list) or len(shape) > 16:
        raise ValueError("expected an array of numbers")
    if not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise ValueError("expected an array of numbers")
    content = base64.b64decode(data, validate=True)
    if len(content) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(
            f"expected the bytes of an array of shape {tuple(shape)}, got {len(content)} bytes"
        )
    array = np.frombuffer(content, dtype).reshape(shape).copy()
    if kind == "numpy":
        return array
    import torch

    return torch.from_numpy(array)


def line(message: dict[str, Any]) -> bytes:
    """One message as a line; a ValueError if it is longer than the other side reads."""
    text = (json.dumps(message) + "\n").encode()
    if len(text) > LONGEST_LINE:
        raise ValueError(f"expected at most {LONGEST_LINE >> 20} MiB, got {len(text) >> 20}")
    check_items(text)
    return text


def check_items(text: bytes | bytearray) -> None:
    """A ValueError if a line holds more lists, dictionaries and items of them than the other side
    reads."""
    if (items := sum(map(text.count, (b",", b"[", b"{")))) > MOST_ITEMS:
        raise ValueError(f"expected at most {MOST_ITEMS} items in lists, got about {items}")


def plain(text: str, keep: str = "\n\t\r") -> str:
    """A stranger's text as any file, page and terminal takes it: half characters and control
    characters are escaped."""
    odd = {c for c in text if c not in keep and unicodedata.category(c) in ("Cc", "Cs")}
    return text.translate({ord(c): ascii(c)[1:-1] for c in odd})
