"""A folder of pictures as a data set: what every training function takes, from files."""

import json

import pytest
import torch
from PIL import Image
from pretend import pretended_device

from minildm.data import Pictures, TextImageDataset, find_duplicates
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


def test_the_record_names_the_folder_without_its_path_and_how_it_was_read(class_folders):
    options = {"fit": "pad", "background": "#fafafa", "caption": "my {class}"}
    data = TextImageDataset.from_folder(class_folders, size=8, **options)
    assert data.about == {"name": "mine", **options}
    assert data.captions == [["my blue"], ["my red thing"]]


def test_captions_of_ones_own_have_no_template_in_the_record(captioned):
    about = TextImageDataset.from_folder(captioned, size=8).about
    assert about == {"name": "mine", "fit": "crop", "background": "white"}


def test_what_is_skipped_is_named_and_counted_or_an_error(class_folders, recwarn):
    (class_folders / "blue/empty.png").touch()
    (class_folders / "blue/notes.txt").write_text("…")
    data = TextImageDataset.from_folder(class_folders, size=8)
    (said,) = [str(warning.message) for warning in recwarn]
    for words in ("blue/notes.txt (no picture", "blue/empty.png (expected a picture", ": 2 files"):
        assert words in said
    with pytest.raises(ValueError, match=r"pictures alone, got blue/notes.txt .*: 1 file in all"):
        TextImageDataset.from_folder(class_folders, size=8, strict=True)
    (class_folders / "blue/notes.txt").unlink()
    with pytest.raises(ValueError, match=r"pictures alone, got blue/empty.png .*: 1 file in all"):
        TextImageDataset.from_folder(class_folders, size=8, strict=True)
    (class_folders / "blue/empty.png").unlink()
    clean = TextImageDataset.from_folder(class_folders, size=8, strict=True)
    torch.testing.assert_close(clean.images, data.images)


def test_one_class_has_its_name_as_caption_and_says_so(class_folders):
    (class_folders / "red_thing").rename(class_folders.parent / "elsewhere")
    with pytest.warns(UserWarning, match=r"expected two classes or more, got only blue: every"):
        data = TextImageDataset.from_folder(class_folders, size=8)
    assert data.classes == () and data.captions == [["a picture of blue"]]
    assert data.caption_of.unique().tolist() == [0] and data.labels.max() > 0


def test_a_split_of_damaged_pictures_alone_is_an_error(tmp_path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            save(tmp_path / split / name / "1.png", (len(split), ord(name), 0))
            if split == "test":
                (tmp_path / split / name / "1.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="2 files in all"):
        assert len(TextImageDataset.from_folder(tmp_path, size=8)) == 2
    with pytest.raises(ValueError, match="expected pictures in the split test, got none"):
        with pytest.warns(UserWarning):
            TextImageDataset.from_folder(tmp_path, "test", size=8)
    with pytest.raises(ValueError, match="a split of .*, got 'val'"):
        TextImageDataset.from_folder(tmp_path, "val")


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("form", ["class_folders", "captioned"])
def test_pictures_are_made_where_the_device_says(form, cached, tmp_path, request):
    folder, cache = request.getfixturevalue(form), tmp_path / "cache" if cached else None
    here = TextImageDataset.from_folder(folder, size=16, cache=cache)
    with pretended_device() as device:
        there = TextImageDataset.from_folder(folder, size=16, cache=cache)
        assert there.images.device == there.labels.device == there.caption_of.device == device
        picked = there.images[torch.arange(4)]
        assert picked.device == device
        assert torch.equal(picked.cpu(), here.images[torch.arange(4, device="cpu")].cpu())
        assert torch.equal(there.labels.cpu(), here.labels)
        assert len(find_duplicates(there.images)) == len(find_duplicates(here.images))
