"""MNIST, Fashion-MNIST and CIFAR-10 as tensors in [-1, 1], with captions (LeCun et al. 1998; Xiao
et al. 2017; Krizhevsky 2009). Chapters 01 and 17.

Where a data set is looked for, first hit wins:
1. the folder named by the environment variable MINILDM_DATA: there in torchvision's own layout
   (`MNIST/raw/…`, `FashionMNIST/raw/…`, `cifar-10-batches-py/…`), or the same files in a folder
   named as the data set (`mnist/…`), or all of CIFAR-10 as arrays (`cifar10.npz`);
2. `data/` of the source tree: all of MNIST, a class-balanced tenth of CIFAR-10;
3. `~/.cache/minildm`, which torchvision's download fills (`minildm data fashion_mnist` does it
    ahead of time).

Every file is compared with its published checksum each time it is read; nothing damaged or
half-finished is used.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from minildm.data.captions import CLASS_NAMES
from minildm.data.images import pad
from minildm.files import checked, read_checksums

SOURCE_TREE = Path(__file__).resolve().parents[2]
# the smaller lossless format of each that decodes quickly
SHEET_FORMAT = {"mnist": "png", "cifar10": "webp"}
CIFAR_SUBSET = {"train": 500, "test": 100}  # images of each class

# data set -> (its class in torchvision.datasets, its folder there, {file: its MD5, unpacked}).
# torchvision itself checks only archives: of an unpacked file it asks whether it exists, half
# unpacked or not.
PUBLISHED = {
    "mnist": ("MNIST", "MNIST/raw", {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }),
    "fashion_mnist": ("FashionMNIST", "FashionMNIST/raw", {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }),
    "cifar10": ("CIFAR10", "cifar-10-batches-py", {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    }),
}  # fmt: skip

# The same photographs as one file of plain arrays, `x_train` (N, 32, 32, 3) uint8, `y_train` (N,),
# `x_test`, `y_test`, in the published order. A zip's bytes differ from one NumPy to another, so the
# SHA-256 is that of a split's pixels followed by its labels, a byte each.
CIFAR_ARRAYS = "cifar10.npz"
CIFAR_SHA256 = {
    "train": "f912919bdea371136f1aa4feed6beeca728015a5f08b1899a29c932a7e30be2b",
    "test": "8193b3fbce55bec361cd1b8fd4880cb1649832dc4d6de6da1e7a21847a4843aa",
}


class ImageData(NamedTuple):
    """images: float32 (N, C, H, W) in [-1, 1]; labels: int64 (N,); classes: the name of each
    label."""

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]


def mnist(split: str = "train", size: int | None = None) -> ImageData:
    """The handwritten digits in their original order: (60000 or 10000, 1, 28, 28); `size=32` pads
    them with black."""
    pixels, labels = _find("mnist", split)
    return _image_data("mnist", pixels, labels, size)


def fashion_mnist(split: str = "train", size: int | None = None) -> ImageData:
    """Articles of clothing in MNIST's format: (60000 or 10000, 1, 28, 28); not bundled."""
    pixels, labels = _find("fashion_mnist", split)
    return _image_data("fashion_mnist", pixels, labels, size)


def cifar10(split: str = "train", full: bool = False) -> ImageData:
    """Small colour photographs, (N, 3, 32, 32): N = 5000 or 1000, the bundled class-balanced subset
    (the first 500 or 100 of each class), or all 50000 or 10000 with `full=True`, which are not
    bundled."""
    pixels, labels = _find("cifar10", split, full)
    return _image_data("cifar10", pixels, labels)


# by name, as recipes and cards have it
LOADERS = {"mnist": mnist, "fashion_mnist": fashion_mnist, "cifar10": cifar10}


def load_images(dataset: str, split: str = "train", full: bool = False) -> ImageData:
    """A data set by its name; `full` asks for all of CIFAR-10, and the others are whole."""
    options = {"full": True} if full and dataset == "cifar10" else {}
    return LOADERS[dataset](split, **options)


def balanced(
    labels: torch.Tensor, per_class: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Ascending indices of `per_class` examples of every class: the first ones, or random ones with
    a generator."""
    order = (
        torch.arange(len(labels))
        if generator is None
        else torch.randperm(len(labels), generator=generator)
    )
    chosen = [order[labels[order] == label] for label in labels.unique()]
    if per_class < 1 or min(map(len, chosen)) < per_class:
        raise ValueError(f"expected per_class from 1 to {min(map(len, chosen))}, got {per_class}")
    return torch.cat([index[:per_class] for index in chosen]).sort().values


def partition(
    data: ImageData, count: int, generator: torch.Generator
) -> tuple[ImageData, ImageData]:
    """Divide at random into `count` examples and the rest, say into training and validation."""
    if not 0 < count < len(data.labels):
        raise ValueError(f"expected a count between 0 and {len(data.labels)}, got {count}")
    order = torch.randperm(len(data.labels), generator=generator)
    parts = order[:count].sort().values, order[count:].sort().values
    first, rest = (ImageData(data.images[part], data.labels[part], data.classes) for part in parts)
    return first, rest


def download(dataset: str) -> Path:
    """Bring a data set into ~/.cache/minildm, unless it is there and whole; give its folder.

    Torchvision unpacks into a temporary folder; a file moves into place, in one step, only when its
    MD5 is right.
    """
    if dataset not in PUBLISHED:
        raise ValueError(f"expected a data set of {sorted(PUBLISHED)}, got {dataset!r}")
    class_name, folder, files = PUBLISHED[dataset]
    target = _cache() / folder
    mend = f"minildm data {dataset}"
    try:
        for name, md5 in files.items():
            checked(target / name, "md5", md5, mend)
        return target
    except (FileNotFoundError, ValueError):
        pass  # missing or damaged: bring all of it again
    import torchvision.datasets

    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_cache(), prefix="unfinished-") as unfinished:
            getattr(torchvision.datasets, class_name)(unfinished, download=True)
            for name, md5 in files.items():
                checked(Path(unfinished, folder, name), "md5", md5, mend)
                os.replace(Path(unfinished, folder, name), target / name)
    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        or_arrays = f" or {CIFAR_ARRAYS}" if dataset == "cifar10" else ""
        raise ConnectionError(
            f"{dataset} could not be downloaded ({cause}). Try again with: {mend}. Without a "
            f"network, copy torchvision's {folder}{or_arrays} from another machine into a folder "
            "and name that folder in MINILDM_DATA"
        ) from error
    return target


def _find(dataset: str, split: str, full: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The look-up of the module's docstring: uint8 pixels (N, H, W, C) and labels (N,)."""
    if split not in ("train", "test"):
        raise ValueError(f'expected split "train" or "test", got {split!r}')
    _, folder, files = PUBLISHED[dataset]
    subset = dataset == "cifar10" and not full
    named = os.environ.get("MINILDM_DATA")
    if named and not Path(named).is_dir():
        raise FileNotFoundError(
            f"MINILDM_DATA: expected a folder, got {named}; mend it with: unset MINILDM_DATA"
        )
    if named and not subset and place_of(Path(named), dataset):
        return read_published(
            Path(named), dataset, split, f"unset MINILDM_DATA; minildm data {dataset}"
        )
    # an installed wheel has other people's folders beside it: only a source tree can be said to
    # lack a bundled file
    in_source_tree = any(
        (SOURCE_TREE / name).is_file() for name in ("pyproject.toml", "data/make.py")
    )
    if in_source_tree and (dataset == "mnist" or subset):
        return read_bundled(SOURCE_TREE / "data", dataset, split)
    if not all((_cache() / folder / name).is_file() for name in files):
        download(dataset)
    pixels, labels = read_published(_cache(), dataset, split, f"minildm data {dataset}")
    if subset:
        chosen = balanced(torch.as_tensor(labels), CIFAR_SUBSET[split]).cpu().numpy()
        pixels, labels = pixels[chosen], labels[chosen]
    return pixels, labels


def read_bundled(folder: Path, dataset: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Cut a contact sheet of `data/` into uint8 pixels (N, H, W, C), and read their labels (N,).

    Beside each sheet lies a text file: its lines are the sheet's rows of images, a digit for the
    class of each.
    """
    from PIL import Image

    mend = "git checkout -- data"
    digests = read_checksums(folder, mend)
    names = f"{dataset}-{split}.{SHEET_FORMAT[dataset]}", f"{dataset}-{split}.txt"
    sheet, text = (
        checked(folder / name, "sha256", digests.get(name, "missing"), mend) for name in names
    )
    lines = text.split()
    pixels = np.asarray(Image.open(io.BytesIO(sheet)))
    side = len(pixels) // len(lines)
    pixels = pixels.reshape(len(lines), side, len(lines[0]), side, -1).swapaxes(1, 2)
    labels = np.frombuffer(b"".join(lines), np.uint8) - ord("0")
    return pixels.reshape(len(labels), side, side, -1), labels


def place_of(root: Path, dataset: str) -> Path | None:
    """Where in a folder the published set lies, by the layouts of this module's docstring; None if
    it is not there."""
    for folder in (root / PUBLISHED[dataset][1], root / dataset):
        if folder.is_dir():
            return folder
    arrays = root / CIFAR_ARRAYS
    return arrays if dataset == "cifar10" and arrays.is_file() else None


def read_published(
    root: Path, dataset: str, split: str, mend: str
) -> tuple[np.ndarray, np.ndarray]:
    """Read one split of what lies in a folder, `place_of`; `mend` is the command an error
    recommends.

    Gives uint8 pixels (N, H, W, C) and labels (N,).
    """
    _, folder, files = PUBLISHED[dataset]
    place = place_of(root, dataset) or root / folder
    if place.name == CIFAR_ARRAYS:
        return read_arrays(place, split, mend)
    names = [
        name
        for name in files
        if name.startswith({"train": ("train", "data"), "test": ("t10k", "test")}[split])
    ]
    contents = [checked(place / name, "md5", files[name], mend) for name in names]
    if dataset == "cifar10":
        # unpickling is safe here: the checksum has just shown that these are the published bytes
        batches = [pickle.loads(content, encoding="bytes") for content in contents]
        pixels = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([np.asarray(batch[b"labels"], np.uint8) for batch in batches])
        return pixels.transpose(0, 2, 3, 1), labels
    # IDX: a header of 4-byte integers, four of them or two, then the bytes
    pixels, labels = (np.frombuffer(content, np.uint8) for content in contents)
    return pixels[16:].reshape(-1, 28, 28, 1), labels[8:]


def read_arrays(file: Path, split: str, mend: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one split of CIFAR-10 from CIFAR_ARRAYS: uint8 pixels (N, H, W, C) and labels (N,)."""
    try:
        with np.load(file) as arrays:
            pixels, labels = arrays[f"x_{split}"], arrays[f"y_{split}"].ravel().astype(np.uint8)
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{file}: expected the arrays x_{split} and y_{split}, got: {error}; "
            f"mend it with: {mend}"
        ) from None
    got = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if got != CIFAR_SHA256[split]:
        raise ValueError(
            f"{file}: truncated or altered, expected {split} pixels and labels of sha256 "
            f"{CIFAR_SHA256[split]}, got {got}; mend it with: {mend}"
        )
    return pixels.reshape(-1, 32, 32, 3), labels


def _image_data(
    dataset: str, pixels: np.ndarray, labels: np.ndarray, size: int | None = None
) -> ImageData:
    """uint8 (N, H, W, C) in [0, 255] to float32 (N, C, H, W) in [-1, 1]."""
    images = (
        torch.as_tensor(np.array(pixels.transpose(0, 3, 1, 2), np.float32, order="C"))
        .div_(127.5)
        .sub_(1)
    )
    images = images if size is None else pad(images, size)
    return ImageData(images, torch.as_tensor(labels.astype(np.int64)), CLASS_NAMES[dataset])


def _cache() -> Path:
    return Path.home() / ".cache" / "minildm"
