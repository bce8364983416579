"""Data: the published bytes or a clear error, never anything between."""

import hashlib
import pickle
import shutil
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch

from minildm.data import crop
from minildm.data import datasets as data

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_cache_and_no_network(monkeypatch, tmp_path):
    """Each test has an empty cache, no MINILDM_DATA and no network."""
    monkeypatch.delenv("MINILDM_DATA", raising=False)
    monkeypatch.setattr(data, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(urllib.request, "urlopen", no_network)


def no_network(*args, **kwargs):
    raise urllib.error.URLError("Name or service not known")


@pytest.fixture(scope="module")
def mnist_train():
    return data.mnist("train")


def as_idx(array: torch.Tensor) -> bytes:
    """MNIST's own file format: a magic number, the sizes, the bytes."""
    header = struct.pack(f">{1 + array.ndim}i", 0x0800 + array.ndim, *array.shape)
    return header + array.to(torch.uint8).numpy().tobytes()


def as_pixels(images: torch.Tensor) -> torch.Tensor:
    return ((images + 1) * 127.5).round()


def write_published(monkeypatch, root: Path, dataset: str, contents: dict[str, bytes]) -> Path:
    """A small stand-in for a published set, with its checksums in the table of the published
    ones."""
    name, folder, _ = data.PUBLISHED[dataset]
    (root / folder).mkdir(parents=True)
    for file, content in contents.items():
        (root / folder / file).write_bytes(content)
    md5s = {file: hashlib.md5(content).hexdigest() for file, content in contents.items()}
    monkeypatch.setitem(data.PUBLISHED, dataset, (name, folder, md5s))
    return root / folder


def small_fashion() -> dict[str, bytes]:
    generator = torch.Generator().manual_seed(0)
    contents = {}
    for split, count in (("train", 20), ("t10k", 10)):
        contents[f"{split}-images-idx3-ubyte"] = as_idx(
            torch.randint(256, (count, 28, 28), generator=generator)
        )
        contents[f"{split}-labels-idx1-ubyte"] = as_idx(torch.arange(count) % 10)
    return contents


def bundled_copy(monkeypatch, tmp_path, *names: str) -> Path:
    """A source tree whose data/ holds copies of some of the bundled files."""
    (tmp_path / "tree" / "data").mkdir(parents=True)
    (tmp_path / "tree" / "pyproject.toml").touch()
    for name in ("SHA256SUMS", *names):
        shutil.copy(REPOSITORY / "data" / name, tmp_path / "tree" / "data")
    monkeypatch.setattr(data, "SOURCE_TREE", tmp_path / "tree")
    return tmp_path / "tree" / "data"


# What is bundled


def test_bundled_mnist_is_byte_for_byte_the_published_one_in_its_order(mnist_train):
    md5s = data.PUBLISHED["mnist"][2]
    for prefix, split in (("train", mnist_train), ("t10k", data.mnist("test"))):
        images = as_idx(as_pixels(split.images).squeeze(1))
        assert hashlib.md5(images).hexdigest() == md5s[f"{prefix}-images-idx3-ubyte"]
        assert hashlib.md5(as_idx(split.labels)).hexdigest() == md5s[f"{prefix}-labels-idx1-ubyte"]


def test_mnist_has_its_published_shape_mean_and_class_counts(mnist_train):
    images, labels, classes = mnist_train
    assert (
        images.shape == (60000, 1, 28, 28)
        and images.dtype == torch.float32
        and images.is_contiguous()
    )
    assert (images.min(), images.max()) == (-1, 1) and labels.dtype == torch.int64
    unit = (images + 1) / 2
    assert unit.mean(dtype=torch.float64).item() == pytest.approx(0.1307, abs=5e-5)
    assert unit.std().item() == pytest.approx(0.3081, abs=5e-5)
    assert labels.bincount().tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4] and classes[labels[0]] == "five"


def test_mnist_at_32_is_mnist_with_a_black_border():
    small, large = data.mnist("test"), data.mnist("test", size=32)
    assert large.images.shape == (10000, 1, 32, 32)
    torch.testing.assert_close(crop(large.images, 28), small.images, rtol=0, atol=0)
    assert (large.images.sum() - small.images.sum()).item() == pytest.approx(
        -10000 * (32**2 - 28**2), rel=1e-4
    )


@pytest.mark.parametrize(("split", "per_class"), [("train", 500), ("test", 100)])
def test_bundled_cifar10_is_class_balanced_colour(split, per_class):
    images, labels, classes = data.cifar10(split)
    assert images.shape == (10 * per_class, 3, 32, 32) and images.dtype == torch.float32
    assert -1 == images.min() and images.max() == 1
    assert labels.bincount().tolist() == [per_class] * 10 and len(classes) == 10
    # the published channel means of the 50000, to the standard error of a mean over this many
    # images
    means = ((images + 1) / 2).mean((0, 2, 3))
    torch.testing.assert_close(
        means, torch.tensor([0.4914, 0.4822, 0.4465]), rtol=0, atol=0.4 * len(labels) ** -0.5
    )


def test_bundled_cifar10_begins_as_the_published_order_does():
    assert data.cifar10("train").labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert data.cifar10("test").labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]


def test_bundled_files_are_few_and_small():
    files = [path for path in (REPOSITORY / "data").iterdir() if path.is_file()]
    assert max(path.stat().st_size for path in files) < 12e6
    assert sum(path.stat().st_size for path in files) < 23e6
    listed = {
        line.split()[1] for line in (REPOSITORY / "data" / "SHA256SUMS").read_text().splitlines()
    }
    assert listed == {path.name for path in files if path.suffix in (".png", ".webp", ".txt")}


# Damage


@pytest.mark.parametrize("name", ["mnist-test.png", "mnist-test.txt", "SHA256SUMS"])
def test_missing_bundled_file_is_named_with_the_command_that_mends_it(monkeypatch, tmp_path, name):
    folder = bundled_copy(monkeypatch, tmp_path, "mnist-test.png", "mnist-test.txt")
    assert len(data.mnist("test").labels) == 10000
    (folder / name).unlink()
    with pytest.raises(
        FileNotFoundError,
        match=rf"{name}: expected .*, got none; mend it with: git checkout -- data$",
    ):
        data.mnist("test")


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def altered(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [truncated, altered, lambda content: b""])
@pytest.mark.parametrize("name", ["mnist-test.png", "mnist-test.txt"])
def test_damaged_bundled_file_is_named_with_what_came_and_the_command(
    monkeypatch, tmp_path, name, damage
):
    path = bundled_copy(monkeypatch, tmp_path, "mnist-test.png", "mnist-test.txt") / name
    content = damage(path.read_bytes())
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"{name}: .*expected sha256 \w+, got .*; mend it with: git chec"
    ) as raised:
        data.mnist("test")
    assert hashlib.sha256(content).hexdigest() in str(
        raised.value
    ) and f"({len(content)} bytes)" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("sums", [b"", b"\xff\x00 nonsense", b"one two three\nfour"])
def test_damaged_list_of_checksums_passes_nothing(monkeypatch, tmp_path, sums):
    folder = bundled_copy(monkeypatch, tmp_path, "mnist-test.png", "mnist-test.txt")
    (folder / "SHA256SUMS").write_bytes(sums)
    with pytest.raises(ValueError, match="git checkout -- data"):
        data.mnist("test")


# The folder that MINILDM_DATA names


def test_folder_in_torchvision_layout_is_read_and_checked(monkeypatch, tmp_path):
    bundled = data.mnist("test")
    raw = tmp_path / "sets" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-images-idx3-ubyte").write_bytes(as_idx(as_pixels(bundled.images).squeeze(1)))
    (raw / "t10k-labels-idx1-ubyte").write_bytes(as_idx(bundled.labels))
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path / "sets"))
    monkeypatch.setattr(data, "read_bundled", None)  # so that only the folder can have given it
    from_folder = data.mnist("test")
    torch.testing.assert_close(from_folder.images, bundled.images, rtol=0, atol=0)
    torch.testing.assert_close(from_folder.labels, bundled.labels)

    with pytest.raises(
        FileNotFoundError,
        match="train-images-idx3-ubyte: expected .*unset MINILDM_DATA; minildm data",
    ):
        data.mnist("train")
    path = raw / "t10k-images-idx3-ubyte"
    path.write_bytes(truncated(path.read_bytes()))
    with pytest.raises(
        ValueError, match="t10k-images-idx3-ubyte: truncated or altered, expected md5 2646ac64"
    ):
        data.mnist("test")


def test_folder_that_does_not_hold_the_set_leaves_the_bundled_one(monkeypatch, tmp_path):
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path))
    assert len(data.mnist("test").labels) == 10000
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="MINILDM_DATA: expected a folder, got .*nowhere"):
        data.mnist("test")


def test_fashion_mnist_from_a_folder_keeps_pixels_and_labels(monkeypatch, tmp_path):
    contents = small_fashion()
    write_published(monkeypatch, tmp_path, "fashion_mnist", contents)
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path))
    images, labels, classes = data.fashion_mnist("train")
    assert images.shape == (20, 1, 28, 28) and classes[labels[9]] == "Ankle boot"
    assert as_idx(as_pixels(images).squeeze(1)) == contents["train-images-idx3-ubyte"]
    assert data.fashion_mnist("test", size=32).images.shape == (10, 1, 32, 32)


def test_full_cifar10_from_a_folder_keeps_pixels_and_labels_and_the_subset_stays_bundled(
    monkeypatch, tmp_path
):
    rng = np.random.default_rng(0)
    batches = {}
    for name in data.PUBLISHED["cifar10"][2]:
        pixels = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        batches[name] = {
            b"data": pixels,
            b"labels": rng.permutation(20).astype(int).tolist(),
            b"batch_label": b"",
        }
    contents = {name: pickle.dumps(batch, protocol=2) for name, batch in batches.items()}
    folder = write_published(monkeypatch, tmp_path, "cifar10", contents)
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path))
    images, labels, _ = data.cifar10("train", full=True)
    assert (
        images.shape == (100, 3, 32, 32)
        and labels[20:40].tolist() == batches["data_batch_2"][b"labels"]
    )
    # CIFAR-10's own layout: 1024 red values, then green, then blue, each row by row
    assert as_pixels(images)[23, 1, 2, 5] == batches["data_batch_2"][b"data"][3, 1024 + 2 * 32 + 5]
    assert data.cifar10("test", full=True).images.shape == (20, 3, 32, 32)
    assert data.cifar10("train").images.shape == (5000, 3, 32, 32)

    (folder / "data_batch_3").write_bytes(altered(contents["data_batch_3"]))
    monkeypatch.setattr(
        pickle, "loads", lambda *_, **__: pytest.fail("altered bytes were unpickled")
    )
    with pytest.raises(ValueError, match="data_batch_3: truncated or altered"):
        data.cifar10("train", full=True)


def write_arrays(monkeypatch, file: Path) -> dict[str, np.ndarray]:
    """A small stand-in for cifar10.npz, with its checksums in the table of the published ones."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 50), ("test", 20)):
        pixels = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        labels = rng.permutation(count).astype(np.uint8) % 10
        arrays |= {f"x_{split}": pixels, f"y_{split}": labels}
        digest = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
        monkeypatch.setitem(data.CIFAR_SHA256, split, digest)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **arrays)
    return arrays


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("labels", [np.uint8, np.int64])
def test_full_cifar10_as_arrays_keeps_pixels_and_labels_and_the_subset_stays_bundled(
    monkeypatch, tmp_path, save, labels
):
    arrays = write_arrays(monkeypatch, tmp_path / data.CIFAR_ARRAYS)
    as_labels = {name: x if name[0] == "x" else x.astype(labels) for name, x in arrays.items()}
    save(tmp_path / data.CIFAR_ARRAYS, **as_labels)
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path))
    for split, count in (("train", 50), ("test", 20)):
        images, classes, _ = data.cifar10(split, full=True)
        assert images.shape == (count, 3, 32, 32) and classes.dtype == torch.int64
        assert classes.tolist() == arrays[f"y_{split}"].tolist()
        pixels = torch.as_tensor(arrays[f"x_{split}"]).permute(0, 3, 1, 2).float()
        torch.testing.assert_close(as_pixels(images), pixels, rtol=0, atol=0)
    assert data.cifar10("train").images.shape == (5000, 3, 32, 32)


def swapped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**arrays, "x_train": arrays["x_train"][::-1]}


def relabelled(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**arrays, "y_train": np.roll(arrays["y_train"], 1)}


def shortened(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**arrays, "x_train": arrays["x_train"][:-1], "y_train": arrays["y_train"][:-1]}


def pickled(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**arrays, "y_train": arrays["y_train"].astype(object)}


def renamed(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.replace("x_", "images_"): x for name, x in arrays.items()}


@pytest.mark.parametrize("damage", [swapped, relabelled, shortened, pickled, renamed])
def test_arrays_that_are_not_the_published_ones_are_refused(monkeypatch, tmp_path, damage):
    arrays = write_arrays(monkeypatch, tmp_path / data.CIFAR_ARRAYS)
    np.savez(tmp_path / data.CIFAR_ARRAYS, **damage(arrays))
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"cifar10\.npz: .*unset MINILDM_DATA") as raised:
        data.cifar10("train", full=True)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("damage", [truncated, lambda content: b"", lambda content: b"no zip"])
def test_damaged_file_of_arrays_is_one_line_that_names_it(monkeypatch, tmp_path, damage):
    file = tmp_path / data.CIFAR_ARRAYS
    write_arrays(monkeypatch, file)
    file.write_bytes(damage(file.read_bytes()))
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"cifar10\.npz: .*unset MINILDM_DATA") as raised:
        data.cifar10("train", full=True)
    assert "\n" not in str(raised.value)


def test_every_altered_byte_of_the_arrays_is_refused(monkeypatch, tmp_path):
    """Of the pixels and labels, that is; a zip's own checksums see to it before ours do."""
    file = tmp_path / data.CIFAR_ARRAYS
    write_arrays(monkeypatch, file)
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path))
    content = file.read_bytes()
    for place in range(1000, 150_000, 7001):  # within x_train
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match=r"cifar10\.npz: "):
            data.cifar10("train", full=True)


def test_the_same_files_in_a_folder_named_as_the_data_set_are_read_and_checked(
    monkeypatch, tmp_path
):
    contents = small_fashion()
    folder = write_published(monkeypatch, tmp_path, "fashion_mnist", contents)
    folder.rename(tmp_path / "fashion_mnist")
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path))
    assert data.fashion_mnist("train").images.shape == (20, 1, 28, 28)
    assert data.place_of(tmp_path, "fashion_mnist") == tmp_path / "fashion_mnist"
    file = tmp_path / "fashion_mnist" / "train-images-idx3-ubyte"
    file.write_bytes(altered(file.read_bytes()))
    with pytest.raises(ValueError, match="fashion_mnist/train-images-idx3-ubyte: truncated or al"):
        data.fashion_mnist("train")


def test_a_data_set_is_loaded_by_its_name_and_only_cifar10_has_more_to_give(monkeypatch, tmp_path):
    write_arrays(monkeypatch, tmp_path / data.CIFAR_ARRAYS)
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path))
    assert len(data.load_images("cifar10", "test").labels) == 1000
    assert len(data.load_images("cifar10", "test", full=True).labels) == 20
    for full in (False, True):
        assert len(data.load_images("mnist", "test", full).labels) == 10000


# Downloads


class Torchvision:
    """Stands in for a class of torchvision.datasets: writes some of the files, then fails or is
    done."""

    def __init__(
        self, dataset: str, contents: dict[str, bytes], fails: BaseException | None = None
    ):
        self.dataset, self.contents, self.fails, self.calls = dataset, contents, fails, 0

    def __call__(self, root, download):
        self.calls += 1
        folder = Path(root, data.PUBLISHED[self.dataset][1])
        folder.mkdir(parents=True)
        for name, content in self.contents.items():
            (folder / name).write_bytes(content)
        if self.fails:
            raise self.fails


def test_download_fills_the_cache_once(monkeypatch, tmp_path):
    import torchvision.datasets

    contents = small_fashion()
    write_published(monkeypatch, tmp_path / "elsewhere", "fashion_mnist", contents)
    source = Torchvision("fashion_mnist", contents)
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", source)
    assert len(data.fashion_mnist("train").labels) == 20
    assert len(data.fashion_mnist("test").labels) == 10
    assert data.download("fashion_mnist") == tmp_path / "cache" / "FashionMNIST" / "raw"
    assert source.calls == 1 and [path.name for path in (tmp_path / "cache").iterdir()] == [
        "FashionMNIST"
    ]


@pytest.mark.parametrize(
    "fails", [ConnectionResetError("reset"), RuntimeError("corrupted"), KeyboardInterrupt()]
)
def test_download_that_breaks_off_leaves_nothing_that_counts_as_data(monkeypatch, tmp_path, fails):
    import torchvision.datasets

    contents = small_fashion()
    write_published(monkeypatch, tmp_path / "elsewhere", "fashion_mnist", contents)
    half = {"train-images-idx3-ubyte": truncated(contents["train-images-idx3-ubyte"])}
    monkeypatch.setattr(
        torchvision.datasets, "FashionMNIST", Torchvision("fashion_mnist", half, fails)
    )
    for _ in range(2):
        with pytest.raises(
            KeyboardInterrupt if isinstance(fails, KeyboardInterrupt) else ConnectionError
        ):
            data.fashion_mnist("train")
        assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    monkeypatch.setattr(
        torchvision.datasets, "FashionMNIST", Torchvision("fashion_mnist", contents)
    )
    assert len(data.fashion_mnist("train").labels) == 20


def test_download_with_a_wrong_file_is_refused(monkeypatch, tmp_path):
    import torchvision.datasets

    contents = small_fashion()
    write_published(monkeypatch, tmp_path / "elsewhere", "fashion_mnist", contents)
    wrong = contents | {"train-images-idx3-ubyte": truncated(contents["train-images-idx3-ubyte"])}
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", Torchvision("fashion_mnist", wrong))
    with pytest.raises(
        ValueError,
        match="train-images-idx3-ubyte: truncated or altered.*minildm data fashion_mnist",
    ):
        data.fashion_mnist("train")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize("damage", [truncated, altered])
def test_damaged_file_in_the_cache_is_an_error_that_download_mends(monkeypatch, tmp_path, damage):
    """Torchvision asks only whether an unpacked file exists: after a killed download it would bring
    nothing more."""
    import torchvision.datasets

    contents = small_fashion()
    folder = write_published(monkeypatch, tmp_path / "cache", "fashion_mnist", contents)
    assert len(data.fashion_mnist("train").labels) == 20
    (folder / "train-images-idx3-ubyte").write_bytes(damage(contents["train-images-idx3-ubyte"]))
    with pytest.raises(
        ValueError, match="truncated or altered.*mend it with: minildm data fashion_mnist"
    ):
        data.fashion_mnist("train")
    monkeypatch.setattr(
        torchvision.datasets, "FashionMNIST", Torchvision("fashion_mnist", contents)
    )
    data.download("fashion_mnist")
    assert len(data.fashion_mnist("train").labels) == 20


@pytest.mark.parametrize("load", [data.fashion_mnist, lambda: data.cifar10(full=True)])
def test_no_network_is_one_line_that_says_what_to_do(load):
    with pytest.raises(
        ConnectionError, match="could not be downloaded .*Name or service.*MINILDM_DATA"
    ) as raised:
        load()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("load", [data.fashion_mnist, lambda: data.cifar10(full=True)])
def test_torchvision_refuses_an_archive_that_arrives_short(monkeypatch, tmp_path, load):
    class Short:
        def __init__(self, request, **_):
            self.url, self.length, self.parts = request.full_url, 1000, [b"half an archive", b""]

        def read(self, _=-1):
            return self.parts.pop(0)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(urllib.request, "urlopen", Short)
    with pytest.raises(ConnectionError, match="corrupted"):
        load()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_without_a_source_tree_mnist_and_the_cifar10_subset_come_from_the_published_sets(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(data, "SOURCE_TREE", tmp_path)
    with pytest.raises(ConnectionError, match="mnist could not be downloaded"):
        data.mnist("test")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 120)
    batch = {
        b"data": rng.integers(0, 256, (1200, 3072), dtype=np.uint8),
        b"labels": rng.permutation(labels).tolist(),
    }
    contents = {name: pickle.dumps(batch, protocol=2) for name in data.PUBLISHED["cifar10"][2]}
    write_published(monkeypatch, tmp_path / "cache", "cifar10", contents)
    full, subset = data.cifar10("test", full=True), data.cifar10("test")
    index = data.balanced(full.labels, 100)
    torch.testing.assert_close(subset.images, full.images[index])
    assert subset.labels.bincount().tolist() == [100] * 10


# Everything else


def test_import_costs_neither_torchvision_nor_pillow():
    code = (
        "import sys, minildm.data\n"
        "print([m for m in ('torchvision', 'PIL', 'transformers') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
        ).stdout
        == "[]\n"
    )


@pytest.mark.parametrize("load", [data.mnist, data.fashion_mnist, data.cifar10])
def test_unknown_split_is_refused(load):
    with pytest.raises(ValueError, match='expected split "train" or "test", got \'valid\''):
        load("valid")


def test_balanced_takes_the_first_or_random_ones_of_every_class():
    labels = torch.tensor([1, 0, 1, 1, 0, 0, 0, 1])
    assert data.balanced(labels, 2).tolist() == [0, 1, 2, 4]
    draws = {
        tuple(data.balanced(labels, 2, torch.Generator().manual_seed(seed)).tolist())
        for seed in range(20)
    }
    assert len(draws) > 5 and all(
        labels[list(draw)].sum() == 2 and len(set(draw)) == 4 for draw in draws
    )
    with pytest.raises(ValueError, match="per_class from 1 to 4, got 5"):
        data.balanced(labels, 5)


def test_partition_divides_without_overlap_and_repeats_with_its_seed():
    whole = data.ImageData(torch.arange(20.0).reshape(20, 1, 1, 1), torch.arange(20), ("only",))
    first, rest = data.partition(whole, 15, torch.Generator().manual_seed(0))
    again, _ = data.partition(whole, 15, torch.Generator().manual_seed(0))
    assert len(first.labels) == 15 and sorted(
        [*first.labels.tolist(), *rest.labels.tolist()]
    ) == list(range(20))
    torch.testing.assert_close(first.images.flatten().long(), first.labels)
    torch.testing.assert_close(first.labels, again.labels)
    assert first.labels.tolist() != list(range(15))
