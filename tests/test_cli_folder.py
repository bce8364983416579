"""`minildm data FOLDER`: what there is of one's own pictures."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from minildm.cli import app


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines(result):
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def one_line(result, *words):
    """The last of stderr, after the progress bars, and no traceback."""
    assert result.exit_code == 2, (result.output, result.exception)
    last = result.stderr.replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("minildm: ") and all(word in last for word in words), last
    assert "Traceback" not in result.output


def patches(seed, size=(40, 30)):
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(pixels).resize(size)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def mine():
    """Twelve pictures in two classes and two splits, with three faults of each kind."""
    seed = 0
    for split, count in (("train", 4), ("test", 2)):
        for name in ("a", "big_b"):
            folder = Path("mine", split, name)
            folder.mkdir(parents=True)
            for i in range(count):
                patches(seed, (40 + 10 * seed, 30)).save(folder / f"{i}.png")
                seed += 1
    shutil.copy("mine/train/a/0.png", "mine/train/a/copy.png")
    shutil.copy("mine/train/a/1.png", "mine/test/a/leak.png")
    Image.open("mine/train/a/2.png").resize((120, 60)).save("mine/test/a/near.jpg", quality=90)
    Path("mine/train/a/broken.png").write_bytes(b"")
    Path("mine/test/big_b/notes.txt").write_text("…")
    return Path("mine")


def test_a_folder_is_shown_as_it_is_trained_on(mine):
    before = sorted(mine.rglob("*"))
    said = lines(run("data", mine, "--size", "16", "--out", "sheet.png"))
    assert said[:5] == [
        "mine: 15 pictures, in colour, made 16x16 by crop, on white",
        "train test",
        "a 5 4",
        "big_b 4 2",
        "all 9 6",
    ]
    assert "sizes: 40x30 to 120x60, half of them up to 90x30" in said
    assert 'captions: 2, of 5 words; the longest, of 5: "a picture of big b"' in said
    at = said.index("exact copies in train: 1")
    assert said[at + 1] == "train/a/copy.png repeats train/a/0.png"
    assert "near copies in train: 0" in said and "exact copies in test: 0" in said
    at = said.index("exact copies of train in test: 1")
    assert said[at + 1] == "test/a/leak.png repeats train/a/1.png"
    at = said.index("near copies of train in test: 1")
    assert said[at + 1].startswith("test/a/near.jpg repeats train/a/2.png (0.0")
    assert said[at + 1].endswith(" apart)") and said[at + 2].startswith(
        "note: a picture that is in"
    )
    at = said.index("skipped: 2")
    assert said[at + 1 : at + 3] == [
        "test/big_b/notes.txt: no picture, by its name",
        "train/a/broken.png: expected a picture, got: an empty file",
    ]
    assert said[-1] == "contact sheet: sheet.png"
    assert sorted(mine.rglob("*")) == before  # nothing of ours in the user's folder


def test_the_contact_sheet_has_a_row_for_each_class(mine):
    for name, colour in (("a", (200, 0, 0)), ("big_b", (0, 0, 200))):
        for file in mine.glob(f"*/{name}/*.png"):
            Image.new("RGB", (20, 20), colour).save(file)
    (mine / "test/a/near.jpg").unlink()
    run("data", mine, "--out", "sheet.png")
    sheet = np.asarray(Image.open("sheet.png"))
    rows = [sheet[:64], sheet[-64:]]  # 32 x 32, twice as large
    for row, colour, count in zip(rows, ((200, 0, 0), (0, 0, 200)), (9, 6), strict=True):
        shown = (row == colour).all(-1)
        assert shown.sum() == count * 64 * 64
        assert ((row == 255).all(-1) | shown).all()


def test_captions_are_counted_and_words_that_are_not_trained_named():
    for split, texts in (("train", ["two Cats", ["a dog", "one dog"]]), ("test", ["a bird"])):
        Path("mine", split).mkdir(parents=True)
        rows = []
        for i, text in enumerate(texts):
            patches(i if split == "train" else 9).convert("L").save(f"mine/{split}/{i}.png")
            rows.append(json.dumps({"file_name": f"{i}.png", "text": text}))
        Path("mine", split, "metadata.jsonl").write_text("\n".join(rows))
    said = lines(run("data", "mine", "--size", "64", "--fit", "pad", "--background", "black"))
    assert said[0] == "mine: 3 pictures, in grey, made 64x64 by pad, on black"
    assert "smaller than 64x64, and enlarged: 3" in said
    assert 'captions: 4, of 5 words; the longest, of 2: "two Cats"' in said
    assert said[said.index("words of the test that training has not: 1") + 1] == "bird"


def test_what_is_wrong_with_a_folder_is_one_line(mine):
    one_line(run("data", mine, "--strict"), "expected pictures alone", "notes.txt", "1 file in all")
    (mine / "test/big_b/notes.txt").unlink()
    one_line(
        run("data", mine, "--strict"), "expected pictures alone", "broken.png", "an empty file"
    )
    one_line(run("data", mine, "--fit", "fill"), "expected a fit of crop or pad", "'fill'")
    one_line(run("data", mine, "--background", "blu"), "expected an opaque colour", "'blu'")
    one_line(run("data", mine, "--caption", "a cat"), "expected a caption with {class}")
    one_line(run("data", mine, "--out", "sheet.jpg"), "expected a file name that ends in .png")
    one_line(run("data", "nowhere"), "expected a data set of mnist", "or a folder, got 'nowhere'")
    one_line(run("data", "mnist", "--out", "sheet.png"), "expected a folder with --out, got the")
    Path("bare").mkdir()
    patches(0).save("bare/1.png")
    one_line(run("data", "bare"), "expected a sub-folder for each class, or captions in metadata")
    Path("bare/metadata.csv").write_text("file_name,text\n1.png,a cat, sitting\n")
    one_line(run("data", "bare"), "metadata.csv, line 2: expected 2 cells")


def test_a_folder_of_damaged_files_alone_is_one_line():
    for name in ("a", "b"):
        Path("mine", name).mkdir(parents=True)
        Path("mine", name, "1.png").write_text(name)
    one_line(run("data", "mine"), "expected pictures, got a/1.png", "2 files in all")


def test_one_class_is_said_to_be_one(mine):
    shutil.rmtree(mine / "train/a"), shutil.rmtree(mine / "test/a")
    assert lines(run("data", mine))[-1] == (
        "note: expected two classes or more, got only big_b: every picture's caption is "
        '"a picture of big b"'
    )
