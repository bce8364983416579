"""What a folder holds: nothing is lost in silence, and what is not understood is said in a line."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from minildm.data import hold_out, map_of, read_folder


def save(file, seed=0):
    """A picture that no other seed has."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6), np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def captions(folder, rows, name="metadata.jsonl"):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"file_name": file, "text": text}) for file, text in rows]
    (folder / name).write_text("\n".join(lines))


def seen(found):
    """name -> (texts, class, split)."""
    return {
        entry.file.relative_to(found.root).as_posix(): (
            entry.texts,
            None if entry.label is None else found.classes[entry.label],
            entry.split,
        )
        for entry in found.entries
    }


def reasons(found):
    return {file.relative_to(found.root).as_posix(): reason for file, reason in found.skipped}


def error_of(folder, **options):
    with pytest.raises((ValueError, OSError)) as caught:
        read_folder(folder, **options)
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)
    return str(caught.value)


def test_a_sub_folder_is_a_class_whatever_lies_deeper(tmp_path):
    for i, name in enumerate(("cat/1.png", "cat/tabby/2.JPG", "big_dog/3.webp", "cat/4.tiff")):
        save(tmp_path / name, i)
    found = read_folder(tmp_path)
    assert found.classes == ("big_dog", "cat") and not found.skipped
    assert list(seen(found)) == ["big_dog/3.webp", "cat/1.png", "cat/4.tiff", "cat/tabby/2.JPG"]
    assert seen(found)["cat/tabby/2.JPG"][:2] == (("a picture of cat",), "cat")
    drawn = read_folder(tmp_path, caption="a drawing of {class}, {class}!")
    assert drawn.entries[0].texts == ("a drawing of big dog, big dog!",)


def test_captions_may_be_several_in_one_line_or_in_many(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.png", i)
    save(tmp_path / "deep/é.png", 3)
    rows = [("0.png", ["a", "b", "a"]), ("1.png", "c"), ("2.png", "d"), ("1.png", ["e", "c"])]
    captions(tmp_path, [*rows, ("deep\\e\u0301.png", "f")])  # as Windows and macOS write it
    found = read_folder(tmp_path)
    texts = {name: texts for name, (texts, label, _) in seen(found).items() if label is None}
    several = {"0.png": ("a", "b"), "1.png": ("c", "e")}
    assert texts == {**several, "2.png": ("d",), "deep/é.png": ("f",)}
    assert found.classes == () and not found.skipped


def test_nothing_is_dropped_in_silence(tmp_path):
    names = ("a.png", "b.avif", "crash-test.png", "sub/c.png", "d.png")
    for i, name in enumerate(names):
        save(tmp_path / name, i)
    shutil.copy(tmp_path / "a.png", tmp_path / "without_suffix")
    (tmp_path / "notes.txt").write_text("…")
    (tmp_path / ".hidden").write_text("…")
    os.symlink(tmp_path / "nowhere", tmp_path / "link.png")
    rows = [("a.png", "x"), ("crash-test.png", "y"), ("without_suffix", "z"), ("d.png", " ")]
    captions(tmp_path, [*rows, ("gone.png", "w")])
    found = read_folder(tmp_path)
    assert set(seen(found)) == {"a.png", "crash-test.png", "without_suffix"}
    assert reasons(found) == {
        "b.avif": "no caption in metadata.jsonl",
        "sub/c.png": "no caption in metadata.jsonl",
        "d.png": "an empty caption in line 4",
        "notes.txt": "no picture, by its name",
        "link.png": "a broken link, or no file",
        "gone.png": "expected by line 5 of metadata.jsonl, but there is no such file",
    }
    assert error_of(tmp_path, strict=True).endswith(": 6 files in all")


def test_class_folders_drop_nothing_in_silence_either(tmp_path):
    for i, name in enumerate(("cat/1.png", "dog/2.png", "lost.png", "__MACOSX/cat/1.png")):
        save(tmp_path / name, i)
    (tmp_path / "cat/Thumbs.db").write_bytes(b"...")
    (tmp_path / "README.md").write_text("…")
    (tmp_path / "dog/IMG_1.HEIC").write_bytes(b"...")
    found = read_folder(tmp_path)
    assert set(seen(found)) == {"cat/1.png", "dog/2.png"}
    by_name = "no picture, by its name"
    said = {"cat/Thumbs.db": by_name, "README.md": by_name, "lost.png": "in no class folder"}
    said["dog/IMG_1.HEIC"] = ".HEIC is not read: save it as .png or .jpg"
    assert reasons(found) == said
    assert "expected pictures alone" in error_of(tmp_path, strict=True)


def test_a_file_that_may_not_be_read_is_skipped(tmp_path, monkeypatch):
    for i in range(3):
        save(tmp_path / f"{'ab'[i % 2]}/{i}.png", i)
    may = os.access
    monkeypatch.setattr(os, "access", lambda file, mode: file.name != "1.png" and may(file, mode))
    assert reasons(read_folder(tmp_path)) == {"b/1.png": "no permission to read it"}


@pytest.mark.parametrize("other", ["test", "validation", "val", "valid", "testing", "Test"])
@pytest.mark.parametrize("form", ["classes", "captions"])
def test_splits_are_kept_under_each_of_their_names(tmp_path, other, form):
    for i, split in enumerate(("train", other)):
        inside = "cat/" if form == "classes" else ""
        for j in range(4):
            save(tmp_path / split / f"{inside}{j}.png", 10 * i + j)
        if form == "captions":
            captions(tmp_path / split, [(f"{j}.png", "x") for j in range(4)])
    (tmp_path / "README.md").write_text("…")
    found = read_folder(tmp_path)
    assert [entry.split for entry in found.entries].count("test") == 4
    for entry in found.entries:
        assert (entry.split == "train") == ("/train/" in str(entry.file))
    assert reasons(found) == {"README.md": "in no split"}


def test_three_splits_hold_out_two(tmp_path):
    for i, split in enumerate(("train", "val", "test")):
        save(tmp_path / split / "cat/1.png", i)
        save(tmp_path / split / "dog/1.png", 10 + i)
    assert [entry.split for entry in read_folder(tmp_path).entries] == 2 * ["test"] + 2 * [
        "train"
    ] + 2 * ["test"]


def test_one_file_of_captions_for_all_splits(tmp_path):
    names = [f"{split}/{i}.png" for split in ("train", "val") for i in range(5)]
    for i, name in enumerate(names):
        save(tmp_path / name, i)
    captions(tmp_path, [(name, "x") for name in names])
    assert {name: split for name, (_, _, split) in seen(read_folder(tmp_path)).items()} == {
        name: "test" if "val" in name else "train" for name in names
    }


def test_a_train_alone_is_divided_and_a_test_alone_is_an_error(tmp_path):
    for i in range(30):
        save(tmp_path / f"train/{'ab'[i % 2]}/{i}.png", i)
    assert {entry.split for entry in read_folder(tmp_path).entries} == {"train", "test"}
    (tmp_path / "train").rename(tmp_path / "test")
    assert "expected pictures to train on in train, got none" in error_of(tmp_path)


def test_a_class_may_be_called_train_and_takes_no_other_along(tmp_path):
    for i, name in enumerate(("car", "train", "bus", "test")):
        save(tmp_path / name / "1.png", i)
    found = read_folder(tmp_path)
    assert found.classes == ("bus", "car", "test", "train") and len(found.entries) == 4
    for i, name in enumerate(("car", "train")):  # inside of splits, too
        save(tmp_path / "all/train" / name / "1.png", 10 + i)
        save(tmp_path / "all/test" / name / "1.png", 20 + i)
    assert read_folder(tmp_path / "all").classes == ("car", "train")


def test_what_is_neither_splits_nor_classes_is_asked_about(tmp_path):
    for i, name in enumerate(("train/cat/1.png", "train/dog/1.png", "horse/1.png")):
        save(tmp_path / name, i)
    assert "expected splits or classes, got train" in error_of(tmp_path)
    assert "beside horse: move or rename" in error_of(tmp_path)


@pytest.mark.parametrize("top", ["data", "cat"])
def test_splits_that_lie_deeper_are_not_mixed(tmp_path, top):
    for i, split in enumerate(("train", "test")):
        save(tmp_path / top / split / "x/1.png", i)
        save(tmp_path / "dog" / split / "x/1.png", 10 + i)
    assert f"expected train and test directly in it, got them in {top}" in error_of(tmp_path)


def test_a_class_with_a_folder_called_train_is_a_class(tmp_path):
    for i, name in enumerate(("vehicle/train/1.png", "vehicle/car/1.png", "animal/1.png")):
        save(tmp_path / name, i)
    assert read_folder(tmp_path).classes == ("animal", "vehicle")


def test_about_a_tenth_is_held_out_and_no_picture_ever_changes_sides(tmp_path):
    for i in range(400):
        save(tmp_path / f"{'ab'[i % 2]}/{i}.png", i)
    before = seen(read_folder(tmp_path))
    part = [split for _, _, split in before.values()].count("test") / 400
    assert 0.05 < part < 0.15
    shutil.copy(tmp_path / "a/0.png", tmp_path / "b/copy.png")
    (tmp_path / "a").rename(tmp_path / "c")
    for i in range(400, 500):
        save(tmp_path / f"b/{i}.png", i)
    after = seen(read_folder(tmp_path))
    for name, (_, _, split) in before.items():
        assert after[name.replace("a/", "c/")][2] == split
    assert after["b/copy.png"][2] == before["a/0.png"][2]


def test_the_tenth_is_that_of_the_lowest_sha256(tmp_path):
    files = [save(tmp_path / f"{i}.png", i) for i in range(50)]
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in files]
    below = [digest < bytes([25, 153]) + b"\x99" * 30 for digest in digests]  # 0.1 of 256
    assert hold_out(files) == below and any(below)


def test_of_two_pictures_one_is_held_out_and_of_one_none(tmp_path):
    files = [save(tmp_path / f"{i}.png", i) for i in range(2)]
    assert sorted(hold_out(files)) == [False, True]
    assert hold_out(files[:1]) == [False] and hold_out([files[0], files[0]]) == [False, False]
    save(tmp_path / "only/cat/1.png")
    found = read_folder(tmp_path / "only")
    assert any("expected pictures to hold out, got only one" in note for note in found.notes)


def test_one_class_or_one_without_training_pictures_is_noted(tmp_path):
    for i in range(5):
        save(tmp_path / f"one/my_cat/{i}.png", i)
    assert read_folder(tmp_path / "one").notes == (
        "expected two classes or more, got only my_cat: every picture's caption is "
        '"a picture of my cat"',
    )
    for i, name in enumerate(("train/a", "train/b", "test/a", "test/c")):
        save(tmp_path / "two" / name / "1.png", i)
    found = read_folder(tmp_path / "two")
    assert found.classes == ("a", "b", "c")
    assert found.notes == ("expected pictures of c to train on, got none",)


def test_a_map_beside_a_picture_is_no_picture(tmp_path):
    files = [save(tmp_path / name, i) for i, name in enumerate(("a/1.png", "a/2.jpg", "b/3.png"))]
    maps = [save(tmp_path / name, 9) for name in ("a/1.map.png", "a/2.map.png")]
    save(tmp_path / "b/4.map.png", 10)  # beside nothing: a picture
    found = read_folder(tmp_path)
    assert set(seen(found)) == {"a/1.png", "a/2.jpg", "b/3.png", "b/4.map.png"}
    assert not found.skipped
    assert [map_of(file) for file in files] == [*maps, None]


def test_what_is_no_such_folder_is_said_in_a_line(tmp_path):
    assert "expected a folder of pictures, got" in error_of(tmp_path / "nowhere")
    (tmp_path / "empty/deep").mkdir(parents=True)
    assert "expected pictures with captions, got none" in error_of(tmp_path / "empty")
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text("a")
    assert "got a.txt (no picture, by its name): 1 file in all" in error_of(tmp_path / "text")
    save(tmp_path / "bare/1.png"), save(tmp_path / "bare/2.png", 1)
    said = error_of(tmp_path / "bare")
    assert "a sub-folder for each class, or captions in metadata.jsonl or metadata.csv" in said
    assert "got 2 pictures without either" in said
    save(tmp_path / "split/train/1.png"), save(tmp_path / "split/test/1.png", 1)
    assert "got 1 pictures without either" in error_of(tmp_path / "split")
    assert "expected a caption with {class}" in error_of(tmp_path / "bare", caption="a cat")


def test_captions_in_two_places_or_in_the_wrong_one_are_said_in_a_line(tmp_path):
    save(tmp_path / "a/1.png")
    captions(tmp_path / "a", [("1.png", "x")])
    (tmp_path / "a/metadata.csv").write_text("file_name,text\n1.png,x\n")
    said = error_of(tmp_path / "a")
    assert "expected one file of captions, got metadata.csv, metadata.jsonl" in said
    (tmp_path / "a/metadata.csv").unlink()
    assert "expected the file of captions in" in error_of(tmp_path)
    save(tmp_path / "b/train/1.png")
    captions(tmp_path / "b/train", [("1.png", "x")])
    save(tmp_path / "b/test/cat/1.png")
    assert "expected captions for every split or for none, got both" in error_of(tmp_path / "b")


def test_links_are_followed_once(tmp_path):
    for i in range(2):
        save(tmp_path / f"real/{i}.png", i)
    (tmp_path / "set/cat").mkdir(parents=True)
    os.symlink(tmp_path / "real", tmp_path / "set/dog")
    os.symlink(tmp_path / "set", tmp_path / "set/cat/around")
    save(tmp_path / "set/cat/1.png", 5)
    assert set(seen(read_folder(tmp_path / "set"))) == {"cat/1.png", "dog/0.png", "dog/1.png"}
