"""Pictures decoded once: what is interrupted goes on, what has changed is made anew."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from minildm.data import Pictures, decode, picture_cache, read_folder, to_pixels


def save(file, level=0, mode="L", size=(20, 20)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level).save(file)


@pytest.fixture
def folder(tmp_path):
    for i in range(20):
        save(tmp_path / "mine" / "ab"[i % 2] / f"{i:02}.png", 10 * i)
    (tmp_path / "mine/a/damaged.png").write_bytes(b"...")
    return tmp_path / "mine"


def levels(decoded):
    """Of each picture, the level of its first pixel."""
    images = decoded.images
    pixels = images if isinstance(images, np.ndarray) else to_pixels(images[:])
    return pixels.reshape(len(pixels), -1)[:, 0].tolist()


@pytest.mark.parametrize("cached", [False, True])
def test_pixels_are_in_the_order_of_the_entries_without_the_damaged(folder, tmp_path, cached):
    cache = tmp_path / "cache" if cached else None
    decoded = decode(read_folder(folder), 8, cache=cache)
    assert [10 * int(entry.file.stem) for entry in decoded.entries] == levels(decoded)
    ((file, reason),) = decoded.skipped
    assert file.name == "damaged.png" and "expected a picture" in reason
    assert decoded.images.shape == ((20, 1, 8, 8) if cached else (20, 8, 8, 1))
    assert decoded.enlarged == 0 and decode(read_folder(folder), 64).enlarged == 20


@pytest.mark.parametrize("cached", [False, True])
def test_one_coloured_picture_makes_all_coloured(folder, tmp_path, cached):
    save(folder / "b/19.png", (200, 0, 0), "RGB")
    cache = tmp_path / "cache" if cached else None
    images = decode(read_folder(folder), 8, cache=cache).images
    pixels = images if isinstance(images, np.ndarray) else to_pixels(images[:])
    assert pixels.shape == (20, 8, 8, 3) and (pixels[-1] == (200, 0, 0)).all()
    assert (pixels[:-1] == pixels[:-1, :, :, :1]).all()


def test_a_finished_cache_is_read_and_nothing_is_decoded(folder, tmp_path, monkeypatch):
    first = decode(read_folder(folder), 8, cache=tmp_path / "cache")
    monkeypatch.setattr(picture_cache, "read_picture", None)
    again = decode(read_folder(folder), 8, cache=tmp_path / "cache")
    assert levels(first) == levels(again) and again.entries == first.entries
    assert again.skipped == first.skipped
    assert sorted(path.name for path in folder.rglob("*") if path.suffix != ".png") == ["a", "b"]


def decoded_files(monkeypatch):
    """The names of the files that are decoded from here on."""
    names, read = [], picture_cache.read_picture
    monkeypatch.setattr(
        picture_cache,
        "read_picture",
        lambda file, *options, **more: (names.append(file.name), read(file, *options, **more))[1],
    )
    return names


@pytest.mark.parametrize("change", ["added", "removed", "altered", "other size", "other fit"])
def test_what_has_changed_is_decoded_anew_and_said(folder, tmp_path, change, monkeypatch):
    decode(read_folder(folder), 8, cache=tmp_path / "cache")
    options = {"size": 8}
    if change == "added":
        save(folder / "a/new.png", 123)
    elif change == "removed":
        (folder / "a/00.png").unlink()
    elif change == "altered":
        save(folder / "a/00.png", 55)
    else:
        options = {"size": 16} if change == "other size" else {"size": 8, "fit": "pad"}
    said = "other settings" if "other" in change else "its files have changed"
    with pytest.warns(UserWarning, match=f"{said}; doing it again"):
        decoded = decode(read_folder(folder), **options, cache=tmp_path / "cache")
    assert levels(decoded) == levels(decode(read_folder(folder), **options))


def test_an_interrupted_cache_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(picture_cache, "CHUNK", 4)
    read = picture_cache.read_picture

    def interrupted(file, *options, **more):
        if file.name == "03.png":
            raise KeyboardInterrupt
        return read(file, *options, **more)

    with monkeypatch.context() as patch:
        patch.setattr(picture_cache, "read_picture", interrupted)
        with pytest.raises(KeyboardInterrupt):
            decode(read_folder(folder), 8, cache=tmp_path / "cache")
    names = decoded_files(monkeypatch)
    decoded = decode(read_folder(folder), 8, cache=tmp_path / "cache")
    assert 0 < len(names) < 13 and "00.png" not in names and "19.png" in names
    assert levels(decoded) == levels(decode(read_folder(folder), 8))


PROGRAM = """
import sys
from minildm.data import decode, picture_cache, read_folder
picture_cache.CHUNK = 16
decode(read_folder(sys.argv[1]), 32, cache=sys.argv[2])
"""


def test_a_killed_process_loses_nothing_but_its_last_pictures(tmp_path, monkeypatch):
    noise = np.random.default_rng(0)
    for i in range(300):
        file = tmp_path / "mine" / "ab"[i % 2] / f"{i:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (256, 256, 3), np.uint8)).save(file)
    cache = tmp_path / "cache"
    index, unfinished = cache / picture_cache.INDEX_FILE, cache / picture_cache.UNFINISHED_FILE
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path / "mine", cache])
    deadline = time.monotonic() + 60
    while not (index.is_file() and json.loads(index.read_text())["done"] >= 48):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = json.loads(index.read_text())
    assert not state["finished"] and 48 <= state["done"] < 300
    with open(unfinished, "ab") as torn:  # as if killed in the middle of a picture
        torn.write(bytes(100))
    names = decoded_files(monkeypatch)
    found = read_folder(tmp_path / "mine")
    decoded = decode(found, 32, cache=cache)
    assert len(names) == 300 - state["done"] and not unfinished.exists()
    np.testing.assert_array_equal(to_pixels(decoded.images[:]), decode(found, 32).images)


def test_a_cache_that_was_cut_short_is_made_anew(folder, tmp_path):
    whole = decode(read_folder(folder), 8, cache=tmp_path / "cache")
    before = levels(whole)
    os.truncate(tmp_path / "cache" / picture_cache.PIXELS_FILE, 100)
    assert levels(decode(read_folder(folder), 8, cache=tmp_path / "cache")) == before


@pytest.mark.parametrize(
    "change",
    [
        {"done": "9"},
        {"done": 10**30},
        {"done": -1},
        {"rows": 1.5},
        {"rows": None},
        {"skipped": None},
        {"skipped": [[0]]},
        {"skipped": [["0", "x"]]},
        {"skipped": [[10**6, "x"]]},
        {"coloured": 1},
        {"finished": "no"},
        {"enlarged": True},
        {"settings": []},
        {"files": 7},
        {"more": 1},
    ],
)
def test_a_damaged_record_of_a_cache_is_said_and_made_anew(folder, tmp_path, change):
    before = levels(decode(read_folder(folder), 8, cache=tmp_path / "cache"))
    index = tmp_path / "cache" / picture_cache.INDEX_FILE
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    with pytest.warns(UserWarning, match="doing it again"):
        assert levels(decode(read_folder(folder), 8, cache=tmp_path / "cache")) == before


def test_two_at_once_decode_only_once(folder, tmp_path, monkeypatch):
    names = decoded_files(monkeypatch)
    found, got = read_folder(folder), []

    def work():
        got.append(levels(decode(found, 8, cache=tmp_path / "cache")))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 21 and got == 3 * [levels(decode(found, 8))]


@pytest.mark.parametrize("place", ["", "a", "a/deeper", "../mine/a"])
def test_a_cache_in_the_pictures_own_folder_is_refused(folder, place):
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError, match="expected a cache outside of .*, got "):
        decode(read_folder(folder), 8, cache=folder / place)
    assert sorted(folder.rglob("*")) == before


def test_a_folder_of_damaged_pictures_has_none(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "1.png").write_bytes(name.encode())
    for cache in (None, tmp_path / "cache"):
        decoded = decode(read_folder(tmp_path / "mine"), 8, cache=cache)
        assert len(decoded.images) == 0 and len(decoded.skipped) == 2
        assert [len(part) for part in decoded.split("train")] == [0, 0]


def test_pictures_index_like_a_tensor(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8)
    (tmp_path / "p").write_bytes(pixels.tobytes())
    pictures = Pictures(tmp_path / "p", (7, 4, 4, 3))
    whole = torch.tensor(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    tensors = (torch.tensor([5, 0, 5]), torch.arange(7) % 2 == 0, torch.tensor([-1]))
    for index in (slice(2, 5), slice(None), slice(None, None, 3), 3, -1, *tensors):
        torch.testing.assert_close(pictures[index], whole[index])
    torch.testing.assert_close(torch.stack(list(pictures)), whole)  # ends with an IndexError
    part = pictures.narrow(0, 2, 4)
    torch.testing.assert_close(part[:], whole.narrow(0, 2, 4))
    torch.testing.assert_close(torch.cat(list(part.split(3))), whole[2:6])
    torch.testing.assert_close(part.subset(torch.tensor([3, 0]))[:], whole[[5, 2]])
    assert part.shape == (4, 3, 4, 4) and len(part) == 4
    torch.testing.assert_close(pictures.min(), whole.min())
    torch.testing.assert_close(pictures.max(), whole.max())
    with pytest.raises(ValueError, match="expected dim 0 and a part of 7, got 0, 5, 3"):
        pictures.narrow(0, 5, 3)
