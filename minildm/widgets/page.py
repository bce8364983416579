"""What all widgets share: a script and a style as text, pictures as addresses, numbers as bytes,
and traits that stay within what there is. Chapter 02."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import traitlets
from PIL import Image
from torch import Tensor

from minildm.plots.images import Images, mosaic

EXTENTS = (1e-6, 1e6)  # how far a plane may reach
MOST = 1000  # of what lies side by side
HERE = Path(__file__).parent / "static"


def script(name: str) -> str:
    """A widget's JavaScript as one module, for a page has no folder to import the others from.

    The files that it imports stand before it, each once, without the lines that import and the
    words that export: names of one module need neither.
    """
    sources = [without_imports(_read(file)) for file in _with_imports(name)]
    shared = [without_exports(source) for source in sources[:-1]]
    return "".join([*shared, sources[-1]])


def without_imports(source: str) -> str:
    """A module without the lines `import { … } from "./other.js";`."""
    lines = source.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("import "))


def without_exports(source: str) -> str:
    """A module as a plain script, whose names are there for what follows."""
    lines = []
    for line in source.splitlines(keepends=True):
        default = line.startswith("export default")
        lines.append(line if default else line.removeprefix("export "))
    return "".join(lines)


def _with_imports(name: str) -> list[str]:
    """A file and, before it, those that it imports and those that they import, each once."""
    files = []
    for line in _read(name).splitlines():
        if line.startswith("import "):  # { … } from "./other.js";
            files += _with_imports(line.split('"')[1].removeprefix("./"))
    return list(dict.fromkeys([*files, name]))


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def style(name: str) -> str:
    """A widget's CSS, after what all of them share."""
    return _read("page.css") + _read(name)


def as_address(images: Images, ncols: int | None = None, gap: int = 2) -> str:
    """The mosaic of some images as a PNG in a data: address, which an <img> shows without a file or
    a server."""
    file = io.BytesIO()
    Image.fromarray(mosaic(images, ncols, gap)).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def as_bytes(numbers: Tensor) -> bytes:
    """Little-endian float32, row after row: what `floats` in page.js reads."""
    return numbers.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4").tobytes()


Handler = Callable[[traitlets.HasTraits, traitlets.Bunch], float | None]


def within(**limits: Callable[[Any], tuple[float, float]]) -> tuple[Handler, Handler]:
    """Two handlers for a widget's class: one to which numbers for which there is nothing to show
    are a ValueError, and one that, where something else changes what there is, brings them back to
    it.

    limits: name of the trait -> a function from the widget to its lowest and its highest number,
    called once all traits that one message of the page sets have been set; the numbers that others
    depend on come first.
    """

    def check(widget: traitlets.HasTraits, proposal: traitlets.Bunch) -> float:
        name = proposal["trait"].name
        value = proposal["value"]
        lowest, highest = limits[name](widget)
        if not lowest <= value <= highest:
            raise ValueError(f"expected {name} in {lowest:g} … {highest:g}, got {value}")
        return value

    def keep(widget: traitlets.HasTraits, change: traitlets.Bunch) -> None:
        for name, limit in limits.items():
            with suppress(IndexError):  # lists that are being filled one after the other
                (lowest, highest), value = limit(widget), getattr(widget, name)
                if highest >= lowest and not lowest <= value <= highest:
                    setattr(widget, name, min(max(value, lowest), highest))

    return traitlets.validate(*limits)(check), traitlets.observe(traitlets.All)(keep)
