"""A folder of pictures as a data set: what every training function takes, from files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from minildm.data import Pictures, TextImageDataset
from minildm.training import autoencoder_batches, classifier_batches, encode_dataset

COLOURS = {"red_thing": (200, 0, 0), "blue": (0, 0, 250)}


def save(file, colour=(0, 0, 0), size=(40, 40)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)


@pytest.fixture
def class_folders(tmp_path):
    for name, colour in COLOURS.items():
        for i in range(30):  # each a little different, or copies would be held out together
            save(tmp_path / "mine" / name / f"{i}.png", tuple(max(0, x - i) for x in colour))
    return tmp_path / "mine"


@pytest.fixture
def captioned(tmp_path):
    rows = []
    for i in range(40):
        save(tmp_path / "mine" / f"{i}.png", (6 * i, 0, 0))
        rows.append({"file_name": f"{i}.png", "text": [f"number {i}", "a red"]})
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "mine/metadata.jsonl").write_text(lines)
    return tmp_path / "mine"


@pytest.mark.parametrize("cached", [False, True])
def test_class_folders_become_labels_captions_and_pixels(class_folders, tmp_path, cached):
    cache = tmp_path / "cache" if cached else None
    train, test = (
        TextImageDataset.from_folder(class_folders, split, size=16, cache=cache)
        for split in ("train", "test")
    )
    assert isinstance(train.images, Pictures if cached else torch.Tensor)
    assert len(train) + len(test) == 60 and 0 < len(test) < 15
    assert train.classes == ("blue", "red_thing")
    assert train.captions == [["a picture of blue"], ["a picture of red thing"]]
    assert train.texts == ["a picture of blue", "a picture of red thing"]
    images = train.images[torch.arange(len(train))]
    assert images.shape == (len(train), 3, 16, 16) and images.dtype == torch.float32
    reddish = images[:, 0].mean((1, 2)) > images[:, 2].mean((1, 2))
    assert torch.equal(reddish, train.labels == 1) and torch.equal(train.caption_of, train.labels)
    assert images.min() == -1 and images.max() == pytest.approx(2 * 250 / 255 - 1)


def test_captions_come_from_metadata_and_labels_from_likeness(captioned):
    train = TextImageDataset.from_folder(captioned, size=16)
    assert train.classes == () and train.labels.max() > 0
    for image, own in zip(train.images, train.caption_of, strict=True):
        number = round((image[0].mean().item() + 1) * 127.5 / 6)
        assert train.captions[own] == [f"number {number}", "a red"]
    # alike are those next to each other: a group is a stretch of reds
    order = train.images[:, 0, 0, 0].argsort()
    changes = (train.labels[order].diff() != 0).sum()
    assert changes == len(train.labels.unique()) - 1


def test_pictures_on_disk_are_what_training_takes(class_folders, tmp_path):
    disk = TextImageDataset.from_folder(class_folders, size=16, cache=tmp_path / "cache")
    memory = TextImageDataset.from_folder(class_folders, size=16)
    for function, options in (
        (classifier_batches, {"labels": disk.labels, "stream": "x"}),
        (autoencoder_batches, {"latent_shape": (4, 2, 2)}),
    ):
        batches = [
            function(data.images, batch_size=8, seed=0, **options) for data in (disk, memory)
        ]
        for a, b in zip(*(batch(3) for batch in batches), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)

    class Halves:
        device = torch.device("cpu")

        def encode(self, x):
            return type("", (), {"mean": x / 2, "std": x * 0})

    for a, b in zip(
        *(encode_dataset(Halves(), x.images, False) for x in (disk, memory)), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_pictures_index_like_a_tensor(tmp_path):
    pixels = np.arange(7 * 4 * 4 * 3, dtype=np.uint8).reshape(7, 4, 4, 3)
    (tmp_path / "p").write_bytes(pixels.tobytes())
    pictures = Pictures(tmp_path / "p", (7, 4, 4, 3))
    whole = torch.tensor(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    for index in (slice(2, 5), torch.tensor([5, 0, 5]), torch.arange(7) % 2 == 0, slice(None)):
        torch.testing.assert_close(pictures[index], whole[index])
    part = pictures.narrow(0, 2, 4)
    torch.testing.assert_close(part[slice(None)], whole.narrow(0, 2, 4))
    torch.testing.assert_close(torch.cat(list(part.split(3))), whole[2:6])
    assert part.shape == (4, 3, 4, 4) and len(part) == 4
    torch.testing.assert_close(pictures.min(), whole.min())
    torch.testing.assert_close(pictures.max(), whole.max())
