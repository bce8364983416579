"""`minildm sample` writes what it draws part by part: however many there are, memory is bounded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import one_line, run

from minildm.cli import drawing, saving
from minildm.data import TextImageDataset, to_pixels
from minildm.pipelines import StableDiffusionPipeline

pytest_plugins = ["tiny"]


@pytest.fixture(autouse=True)
def small_parts(tmp_path, monkeypatch):
    """Four images are drawn at a time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drawing, "BATCH", 4)


@pytest.fixture
def calls(monkeypatch):
    """How many images each call of the pipeline has drawn, and what it does before."""
    counted = []
    draw = StableDiffusionPipeline.__call__

    def count(self, prompt, *arguments, **options):
        images = draw(self, prompt, *arguments, **options)
        counted.append(len(images))
        return images

    monkeypatch.setattr(StableDiffusionPipeline, "__call__", count)
    return counted


def files_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_images_are_those_of_one_call_however_many_are_drawn_at_a_time(tiny_folder, tiny, calls):
    options = ["--model", tiny_folder, "--num", 5, "--seed", 7]
    files = ["--npz", "s.npz", "--out", "g.png", "--folder", "drawn"]
    result = run("sample", "the digit 3", "a handwritten seven", *options, *files)
    assert result.exit_code == 0, result.output
    assert result.stdout == "10 images: g.png s.npz drawn\n" and calls == [4, 4, 2]
    texts = ["the digit 3", "a handwritten seven"]
    generator = torch.Generator().manual_seed(7)
    expected = to_pixels(tiny(texts, num_images_per_prompt=5, generator=generator), 28)
    with np.load("s.npz") as saved:  # as np.savez_compressed would have written it
        assert sorted(saved) == ["images", "prompts"]
        assert saved["images"].dtype == np.uint8 and saved["prompts"].dtype.kind == "U"
        # the network's sums are not of one order for four and for ten images
        np.testing.assert_allclose(saved["images"].astype(int), expected, atol=1)
        images, prompts = saved["images"], saved["prompts"].tolist()
    assert prompts == [texts[0]] * 5 + [texts[1]] * 5
    sheet = np.asarray(Image.open("g.png"))
    assert np.array_equal(sheet, images.reshape(2, 5, 28, 28).swapaxes(1, 2).reshape(56, 140))
    lines = [json.loads(line) for line in Path("drawn/metadata.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == prompts
    for line, pixels in zip(lines, images, strict=True):
        assert np.array_equal(np.asarray(Image.open(f"drawn/{line['file_name']}")), pixels)


def test_a_folder_of_drawings_is_a_data_set(tiny_folder):
    run("sample", "the digit 3", "seven", "--num", 6, "--model", tiny_folder, "--folder", "drawn")
    data = TextImageDataset.from_folder("drawn", size=32)
    assert data.images.shape[1:] == (1, 32, 32) and 1 <= 12 - len(data) <= 5  # some are held out
    assert {text for texts in data.captions for text in texts} <= {"the digit 3", "seven"}
    assert not data.about.get("skipped")


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_what_was_interrupted_goes_on_to_the_same_files(
    tiny_folder, monkeypatch, sampler, tmp_path
):
    command = ["sample", "seven", "nine", "--num", 5, "--model", tiny_folder, "--sampler", sampler]
    assert run(*command, "--folder", "whole").exit_code == 0
    draw, parts = StableDiffusionPipeline.__call__, []

    def stops(self, prompt, **options):
        parts.append(len(prompt))
        if len(parts) == 3:
            raise KeyboardInterrupt
        return draw(self, prompt, **options)

    monkeypatch.setattr(StableDiffusionPipeline, "__call__", stops)
    result = run(*command, "--folder", "broken")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].endswith("with --resume goes on from here")
    whole = files_of("whole")
    done = {f"{i:05}.png" for i in range(8)} | {"metadata.jsonl", saving.RECORD}
    assert files_of("broken").keys() == done
    # a part of which the files are there, but not the record
    Path("broken/00008.png").write_bytes(b"half")
    with open("broken/metadata.jsonl", "a") as file:
        file.write('{"file_name": "00008.png", "te')
    one_line(run(*command, "--folder", "broken"), "expected a new or an empty folder, or --resume")
    one_line(
        run(*command, "--folder", "broken", "--resume", "--seed", 1),
        "broken was begun with another --seed: expected 0, got 1",
    )
    result = run(*command, "--folder", "broken", "--resume")
    assert result.exit_code == 0, result.output
    assert parts == [4, 4, 2, 2] and files_of("broken") == whole
    result = run(*command, "--folder", "broken", "--resume")
    assert result.stdout == "broken is finished: there is nothing to go on with\n"


@pytest.mark.parametrize("place", [["--folder", "drawn"], ["--npz", "s.npz"]])
def test_no_image_is_kept_once_it_is_written(tiny_folder, monkeypatch, place):
    """The memory that NumPy's arrays of drawings take does not grow with their number."""
    alive, most = [0], [0]

    class Counted(np.ndarray):
        def __array_finalize__(self, _):
            alive[0] += 1
            most[0] = max(most[0], alive[0])

        def __del__(self):
            alive[0] -= 1

    def drawn(self, prompt, **_):
        return torch.zeros(len(prompt), 1, 32, 32)

    def counted(images, size):
        return to_pixels(images, size).view(Counted)

    monkeypatch.setattr(StableDiffusionPipeline, "__call__", drawn)
    monkeypatch.setattr("minildm.data.images.to_pixels", counted)
    peaks = []
    for num in (8, 80):
        most[0] = 0
        where = [word.replace("s.", f"{num}.").replace("drawn", f"d{num}") for word in place]
        result = run("sample", "seven", "--model", tiny_folder, "--num", num, *where)
        assert result.exit_code == 0, result.output
        peaks.append(most[0])
    assert 0 < peaks[1] == peaks[0] and alive[0] == 0


def test_more_images_than_belong_into_one_picture_are_refused_before_drawing(tiny_folder, calls):
    result = run("sample", "seven", "--model", tiny_folder, "--num", 90_000)
    one_line(
        result,
        "expected at most 85,598 images of 28 x 28 in one picture, got 90,000",
        "--folder or --npz take more",
    )
    assert calls == [] and not list(Path().glob("*"))


@pytest.mark.parametrize(
    "options, words",
    [
        (["--resume"], ["expected --folder with --resume"]),
        (["--resume", "--folder", "drawn", "--npz", "s.npz"], ["neither --out nor --npz"]),
        (["--folder", "full"], ["expected a new or an empty folder, or --resume, got full"]),
        (["--folder", "full", "--resume"], ["expected a new or an empty folder"]),
        (["--folder", "file"], ["expected a folder to write to", "file"]),
        (["--folder", "odd", "--resume"], ["expected the record of a drawing, got another"]),
    ],
)
def test_folders_that_cannot_be_written_to_are_refused_in_one_line(tiny_folder, options, words):
    Path("full").mkdir()
    Path("full/mine.txt").write_text("")
    Path("file").write_text("")
    Path("odd").mkdir()
    Path("odd", saving.RECORD).write_text('{"drawn": "many"}')
    one_line(run("sample", "seven", "--model", tiny_folder, *options), *words)
    assert Path("full/mine.txt").exists() and not Path("drawn").exists()
