"""Where `minildm sample` puts what it draws, part by part, so that no number of images fills the
memory: a picture of all of them, an archive of numbers, or a folder of files."""

from __future__ import annotations

import base64
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from minildm.files import alone_in, read_json, whole, write_json

if TYPE_CHECKING:
    import numpy as np
    import torch

RECORD = ".drawing.json"  # in a folder: what was asked for, and how far it has come
MOST_PIXELS = 2**26  # in one picture: 65,536 images of 32 x 32; Pillow warns of a third more

Save = Callable[["np.ndarray", Sequence[str]], None]
"""Takes the next images, uint8 (N, H, W) or (N, H, W, 3), and their N prompts."""


@contextmanager
def grid(file: Path, columns: int | None) -> Iterator[Save]:
    """All images side by side in one PNG."""
    import numpy as np
    from PIL import Image

    from minildm.plots.images import mosaic

    parts: list[np.ndarray] = []
    yield lambda images, _: parts.append(images)
    with whole(file) as opened:
        sheet = mosaic(np.concatenate(parts), columns, gap=0)
        Image.fromarray(sheet).save(opened, format="png")


def check_grid(count: int, size: int) -> None:
    """ValueError for more images than belong into one picture."""
    if count * size**2 > MOST_PIXELS:
        raise ValueError(
            f"expected at most {MOST_PIXELS // size**2:,} images of {size} x {size} in one "
            f"picture, got {count:,}; --folder or --npz take more"
        )


@contextmanager
def archive(file: Path, prompts: Sequence[str], num: int) -> Iterator[Save]:
    """What `np.savez_compressed` writes of all images and of each image's prompt, `num` images for
    each of `prompts`."""
    import numpy as np

    with whole(file) as opened, zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED) as packed:
        with packed.open("images.npy", "w", force_zip64=True) as numbers:
            begun = False

            def save(images: np.ndarray, _: Sequence[str]) -> None:
                nonlocal begun
                if not begun:
                    _write_header(numbers, images.dtype, (len(prompts) * num, *images.shape[1:]))
                    begun = True
                numbers.write(images.tobytes())

            yield save
        with packed.open("prompts.npy", "w", force_zip64=True) as texts:
            kind = np.array(prompts).dtype  # as wide as the longest of them
            _write_header(texts, kind, (len(prompts) * num,))
            for prompt in prompts:
                one = np.array(prompt, kind).tobytes()
                for begin in range(0, num, 1000):
                    texts.write(one * min(1000, num - begin))


def _write_header(file: IO[bytes], kind: np.dtype, shape: tuple[int, ...]) -> None:
    """What stands before the numbers in NumPy's format."""
    from numpy.lib import format

    told = {"descr": format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    format.write_array_header_2_0(file, told)


class Folder:
    """A folder in which each image is a file of its own, with its prompt in metadata.jsonl: what
    `minildm data` and `train --data` read. It knows how far the drawing has come.

    asked: the options that decide what is drawn; `resume` wants the same ones
    """

    def __init__(self, path: Path, count: int, asked: Mapping[str, str], resume: bool):
        self.path = path
        self.digits = max(5, len(str(count - 1)))
        self.asked = dict(asked)
        self.drawn = 0
        self.random_state = ""  # of the generator, when so many were drawn
        if resume and (path / RECORD).is_file():
            self._go_on(read_json(path / RECORD, "the record of a drawing"))
        elif path.exists() and any(path.iterdir()):
            raise ValueError(f"expected a new or an empty folder, or --resume, got {path}")

    def _go_on(self, record: Mapping[str, object]) -> None:
        """What an interrupted drawing has done is kept, if the same was asked for."""
        asked, drawn, state = (record.get(key) for key in ("asked", "drawn", "generator"))
        if not (isinstance(asked, dict) and isinstance(drawn, int) and isinstance(state, str)):
            raise ValueError(f"{self.path / RECORD}: expected the record of a drawing, got another")
        for option, now in self.asked.items():
            if (before := asked.get(option)) != now:
                raise ValueError(
                    f"{self.path} was begun with another --{option.replace('_', '-')}: expected "
                    f"{before}, got {now}"
                )
        self.drawn = drawn
        self.random_state = state

    @contextmanager
    def open(self, generator: torch.Generator) -> Iterator[Save]:
        """Each part is written, and recorded, before the next is drawn. An interrupted drawing's
        random numbers go on from where they were."""
        import numpy as np
        import torch
        from PIL import Image

        from minildm.data.metadata import METADATA

        if self.random_state:
            numbers = np.frombuffer(base64.b64decode(self.random_state), np.uint8).copy()
            generator.set_state(torch.as_tensor(numbers))
        with alone_in(self.path):
            captions = self.path / METADATA[0]
            lines = captions.read_bytes().splitlines(True)[: self.drawn] if self.drawn else []
            with whole(captions) as file:  # without those of a part that was not finished
                file.writelines(lines)

            def save(images: np.ndarray, prompts: Sequence[str]) -> None:
                names = [f"{self.drawn + i:0{self.digits}}.png" for i in range(len(images))]
                for name, pixels in zip(names, images, strict=True):
                    with whole(self.path / name) as file:
                        Image.fromarray(pixels).save(file, format="png")
                with open(captions, "a", encoding="utf-8", newline="\n") as file:
                    for name, text in zip(names, prompts, strict=True):
                        file.write(json.dumps({"file_name": name, "text": text}) + "\n")
                self.drawn += len(images)
                state = base64.b64encode(generator.get_state().numpy().tobytes()).decode()
                write_json(
                    self.path / RECORD,
                    {"asked": self.asked, "drawn": self.drawn, "generator": state},
                )

            yield save


@contextmanager
def saving(
    out: Path | None,
    npz: Path | None,
    folder: Folder | None,
    prompts: Sequence[str],
    num: int,
    generator: torch.Generator,
) -> Iterator[Save]:
    """All of them that are wanted: `num` images for each prompt, drawn with the generator."""
    with ExitStack() as opened:
        places: list[Save] = []
        if out is not None:
            columns = num if num > 1 else None  # a row a prompt, or nearly square
            places.append(opened.enter_context(grid(out, columns)))
        if npz is not None:
            places.append(opened.enter_context(archive(npz, prompts, num)))
        if folder is not None:
            places.append(opened.enter_context(folder.open(generator)))

        def save(images: np.ndarray, texts: Sequence[str]) -> None:
            for place in places:
                place(images, texts)

        yield save
