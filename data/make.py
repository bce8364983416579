"""Make the bundled files from the full sets: `python data/make.py FOLDER`.

FOLDER is what MINILDM_DATA may name: `MNIST/raw/…` and `cifar-10-batches-py/…`, as
`torchvision.datasets.MNIST(FOLDER, download=True)` and `CIFAR10(FOLDER, download=True)` leave it,
or `mnist/…` and `cifar10.npz`; see `minildm/data/datasets.py`. All of it is checked.

Writes, beside this script, a contact sheet and its labels for each set and split, and SHA256SUMS;
then reads them back and compares every pixel. Nothing is random. The pixels are the same
everywhere, the bytes with the same Pillow.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

DATA = Path(__file__).resolve().parent
sys.path.insert(0, str(DATA.parent))

from minildm.data import CIFAR_SUBSET, SHEET_FORMAT, balanced, read_bundled, read_published  # noqa: E402
from minildm.files import write_checksums  # noqa: E402

IMAGES_PER_ROW = {"mnist": 200, "cifar10": 100}


def write_sheet(pixels: np.ndarray, labels: np.ndarray, dataset: str, split: str) -> None:
    """Image i goes to row i // IMAGES_PER_ROW, column i % IMAGES_PER_ROW; so does its label, in the
    text file."""
    columns = IMAGES_PER_ROW[dataset]
    count, height, width, channels = pixels.shape
    rows = count // columns
    sheet = pixels.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    image = Image.fromarray(sheet.reshape(rows * height, columns * width, channels).squeeze())
    if SHEET_FORMAT[dataset] == "png":
        image.save(DATA / f"{dataset}-{split}.png", optimize=True)
    else:
        image.save(DATA / f"{dataset}-{split}.webp", lossless=True, quality=100, method=5)
    lines = ["".join(map(str, row)) for row in labels.reshape(rows, columns)]
    (DATA / f"{dataset}-{split}.txt").write_text("\n".join(lines) + "\n", newline="\n")


def main(folder: Path) -> None:
    made = {}
    for dataset in IMAGES_PER_ROW:
        for split in ("train", "test"):
            pixels, labels = read_published(folder, dataset, split, "torchvision's download")
            if dataset == "cifar10":
                chosen = balanced(
                    torch.from_numpy(labels.astype(np.int64)), CIFAR_SUBSET[split]
                ).numpy()
                pixels, labels = pixels[chosen], labels[chosen]
            write_sheet(pixels, labels, dataset, split)
            made[dataset, split] = pixels, labels
    names = sorted(f"{d}-{s}.{ending}" for d, s in made for ending in (SHEET_FORMAT[d], "txt"))
    write_checksums(DATA, names)
    for (dataset, split), arrays in made.items():
        for expected, got in zip(arrays, read_bundled(DATA, dataset, split), strict=True):
            np.testing.assert_array_equal(got, expected)
    for name in names:
        print(f"{(DATA / name).stat().st_size:>10,}  {name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
