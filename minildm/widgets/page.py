"""What travels to the browser: a widget's script and style as text, pictures as addresses, numbers
as bytes."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from minildm.plots.images import Images, mosaic

HERE = Path(__file__).parent / "static"
IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)


def script(name: str) -> str:
    """A widget's JavaScript as one module, for a page has no folder to import the others from.

    Each `import { … } from "./other.js";` is replaced by that file, its `export`s left out; each
    file once.
    """
    seen = set()

    def read(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        return IMPORT.sub(
            lambda found: without_exports(read(found[1])), (HERE / name).read_text(encoding="utf-8")
        )

    return read(name)


def without_exports(source: str) -> str:
    """A module as a plain script, whose names are there for what follows."""
    return re.sub(r"^export (?!default)", "", source, flags=re.MULTILINE)


def style(name: str) -> str:
    """A widget's CSS, after what all of them share."""
    return "".join((HERE / file).read_text(encoding="utf-8") for file in ("page.css", name))


def as_address(images: Images, ncols: int | None = None, gap: int = 2) -> str:
    """The mosaic of some images as a PNG in a data: address, which an <img> shows without a file or
    a server."""
    file = io.BytesIO()
    Image.fromarray(mosaic(images, ncols, gap)).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def as_bytes(numbers: Tensor) -> bytes:
    """Little-endian float32, row after row: what `floats` in page.js reads."""
    return numbers.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4").tobytes()
