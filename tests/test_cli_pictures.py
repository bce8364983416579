"""`minildm train --data` and `evaluate --data`: a folder of pictures, from files to scores."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from minildm.cli import app
from minildm.data import TextImageDataset
from minildm.evaluation import held_out
from minildm.pipelines import StableDiffusionPipeline
from minildm.training import describe_data, examiners, runs

STEPS = "2,3,4"
FAST = ["--steps", STEPS, "--device", "cpu"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_line(result, *words):
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    lines = [line for line in result.stderr.splitlines() if line.startswith("minildm: ")]
    lines = [line for line in lines if not line.startswith("minildm: warning: ")]
    assert len(lines) == 1 and "Traceback" not in result.output, result.stderr
    assert all(str(word) in lines[0] for word in words), lines[0]


def paint(folder, count=24, size=40, seed=0):
    """Red and blue squares in two class folders, the held-out ones by themselves."""
    generator = np.random.default_rng(seed)
    for split, number in (("train", count), ("test", 6)):
        for name, channel in (("red", 0), ("blue", 2)):
            (folder / split / name).mkdir(parents=True)
            for i in range(number // 2):
                pixels = generator.integers(0, 60, (size, size, 3), dtype=np.uint8)
                pixels[8:32, 8:32, channel] += 180
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "squares"
    paint(folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "mine"
    result = run("train", "--data", folder, "--out", out, *FAST, "--caption", "a {class} square")
    assert result.exit_code == 0, result.output
    return out, result


@pytest.fixture
def quick_examiner(monkeypatch):
    own = examiners.OWN_EXAMINERS
    quick = {size: replace(recipe, steps=12) for size, recipe in own.items()}
    monkeypatch.setattr(examiners, "OWN_EXAMINERS", quick)


def record(out):
    return json.loads((out / "training.json").read_text())


def test_a_folder_is_trained_on_and_the_pictures_held_out_are_not(trained, folder):
    out, result = trained
    said = 'training on 24 pictures, 2 classes, 32 x 32 in colour, such as "a blue square"'
    assert said in result.stdout
    seen = TextImageDataset.from_folder(folder, caption="a {class} square")
    assert len(seen) == 24
    assert record(out)["data"] == describe_data(seen)
    kept = TextImageDataset.from_folder(
        folder, cache=out / "pictures-32", caption="a {class} square"
    )
    assert describe_data(kept)["fingerprint"] == describe_data(seen)["fingerprint"]


def test_no_path_is_in_what_a_training_writes(trained, folder):
    out, _ = trained
    texts = [file.read_text() for file in out.rglob("*.json")]
    assert texts and not any(str(folder.parent) in text for text in texts)
    assert record(out)["data"]["name"] == "squares"


def test_the_model_draws_its_captions_in_the_size_it_was_trained_at(trained, tmp_path):
    out, _ = trained
    result = run("sample", "a red square", "--model", out, "--out", tmp_path / "grid.png")
    assert result.exit_code == 0 and Image.open(tmp_path / "grid.png").size == (32, 32)
    assert "never" not in result.stderr


@pytest.mark.parametrize(("options", "minutes"), [((), 4), (("--size", 64), 30)])
def test_larger_pictures_are_given_more_time(folder, tmp_path, monkeypatch, options, minutes):
    told = []
    monkeypatch.setattr(runs, "train", lambda *_, **options: told.append(options["minutes"]))
    result = run("train", "--data", folder, "--out", tmp_path / "out", *options)
    assert (result.exit_code, told) == (0, [minutes]), result.output


def test_64_pixels_keep_what_32_lose(folder, tmp_path):
    result = run("train", "--data", folder, "--out", tmp_path, "--size", 64, *FAST)
    assert result.exit_code == 0, result.output
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path)
    assert pipeline("a picture of red", progress=False).shape == (1, 3, 64, 64)
    assert (tmp_path / "pictures-64").is_dir()


def test_an_interrupted_training_goes_on_with_the_same_pictures_alone(folder, tmp_path, trained):
    out = tmp_path / "mine"
    shutil.copytree(trained[0], out)
    (out / "training.json").write_text(
        json.dumps({**record(out), "finished": False, "seconds": {}, "losses": {}})
    )
    options = ["--data", folder, "--out", out, *FAST, "--caption"]
    again = run("train", *options, "a {class} square")
    one_line(again, "holds a training already: --resume")
    one_line(
        run("train", *options, "the {class} one", "--resume"),
        "expected to go on with caption a {class} square, got caption the {class} one",
    )
    other = tmp_path / "squares"
    paint(other, seed=5)
    one_line(
        run("train", "--data", other, *options[2:], "a {class} square", "--resume"),
        "expected to go on with the pictures of before, squares: 24 with",
    )
    one_line(run("train", "--out", out, "--resume", *FAST), "expected to go on with", "squares")
    result = run("train", *options, "a {class} square", "--resume")
    assert result.exit_code == 0, result.output
    assert record(out)["losses"] == record(trained[0])["losses"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "FOLDER", "--preset", "mnist"], ["expected --data or --preset, got both"]),
        (["--size", "64"], ["expected --data FOLDER with --size"]),
        (["--strict"], ["expected --data FOLDER with --strict"]),
        (["--data", "FOLDER", "--size", "48"], ["--size: expected 32 or 64, got 48"]),
        (["--data", "FOLDER", "--fit", "stretch"], ["crop or pad", "stretch"]),
        (["--data", "FOLDER", "--caption", "a cat"], ["{class}", "a cat"]),
        (["--data", "nowhere"], ["nowhere"]),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(folder, tmp_path, options, words):
    options = [str(folder) if option == "FOLDER" else option for option in options]
    one_line(run("train", "--out", tmp_path / "x", *FAST, *options), *words)


def test_two_processes_train_a_folder_to_the_loss_curve_of_one(trained, folder, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = (
        "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    )
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch.split()]
    command += ["--main_process_port", port, "-m", "minildm.cli", "train", "--data", str(folder)]
    command += ["--out", str(tmp_path / "mine"), "--caption", "a {class} square", *FAST]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("training on 24 pictures") == 1
    one, two = record(trained[0]), record(tmp_path / "mine")
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["data"] == two["data"]
    for stage, losses in one["losses"].items():
        torch.testing.assert_close(
            torch.tensor(two["losses"][stage]), torch.tensor(losses), rtol=1e-4, atol=1e-4
        )


# ---------------------------------------------------------------------------------------- evaluate


def test_a_model_is_scored_by_the_pictures_held_out(trained, folder, tmp_path, quick_examiner):
    out = tmp_path / "mine"
    shutil.copytree(trained[0], out)
    files = ["--json", tmp_path / "s.json", "--pairs", tmp_path / "p.png"]
    result = run("evaluate", "--model", out, "--data", folder, "--samples", 12, *files)
    assert result.exit_code == 0, result.output
    for words in (
        "prompt accuracy",
        "Fréchet",
        "real (floor)",
        "examiner: trained on training pictures alone, right about",
        "nearest training picture",
        "Only 6 pictures are held out",
        "12 samples, seed 0",
    ):
        assert words in result.stdout
    assert "was not trained on" not in result.stderr
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["data"] == "squares" and scores["nearness"]["held_out"] > 0
    assert Image.open(tmp_path / "p.png").size[0] > 8 * 32
    assert (out / "examiner" / "minildm.json").is_file()
    again = run("evaluate", "--model", out, "--data", folder, "--samples", 12, *files)
    assert json.loads((tmp_path / "s.json").read_text())["scores"] == scores["scores"], again.output


def test_another_folder_than_the_one_trained_on_is_said(trained, tmp_path, quick_examiner):
    out = tmp_path / "mine"
    shutil.copytree(trained[0], out)
    paint(tmp_path / "others", seed=7)
    result = run(
        "evaluate", "--model", out, "--data", tmp_path / "others", "--samples", 6, "--pairs",
        tmp_path / "p.png",
    )  # fmt: skip
    assert result.exit_code == 0 and "the model was not trained on what is in" in result.stderr


def test_pictures_that_the_model_does_not_draw_are_one_line(trained, tmp_path):
    for name in ("one", "two"):
        for split in ("train", "test"):
            (tmp_path / "grey" / split / name).mkdir(parents=True)
            Image.new("L", (32, 32), 99).save(tmp_path / "grey" / split / name / "a.png")
    out = tmp_path / "mine"
    shutil.copytree(trained[0], out)
    result = run("evaluate", "--model", out, "--data", tmp_path / "grey")
    one_line(result, "expected pictures (N, 3, 32, 32) as the model draws, got (2, 1, 32, 32)")


def test_a_model_of_own_pictures_without_a_folder_is_told_of_data(trained):
    one_line(run("evaluate", "--model", trained[0]), "own pictures are scored with --data")
    one_line(run("evaluate", "--pairs", "p.png"), "expected --data FOLDER with --pairs")
    one_line(run("evaluate", "--data", ".", "--full"), "expected --data or --full, got both")
    assert held_out.PAIRS % 4 == 0  # rows of whole pairs
