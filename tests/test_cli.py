"""The command line: what it writes, and that what goes wrong is one line on stderr and exit status
2."""

import errno
import hashlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_pipeline
from typer.testing import CliRunner

from minildm.cli import app
from minildm.data import CLASS_NAMES, ImageData, datasets, to_pixels
from minildm.evaluation import evaluation
from minildm.pipelines import AutoguidedPipeline, StableDiffusionPipeline
from minildm.schedulers import SAMPLERS
from minildm.training import runs

pytest_plugins = ["tiny"]

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_line(result, *words, status=2):
    """The whole of stderr, bar a progress bar, is one line that says all this."""
    assert result.exit_code == status, (result.exit_code, result.output, result.exception)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("minildm: "), result.stderr
    assert all(str(word) in lines[0] for word in words), lines[0]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Files without a folder land here."""
    monkeypatch.chdir(tmp_path)


# ------------------------------------------------------------------------------------------ sample


def test_sample_draws_what_the_pipeline_draws(tiny_folder, tmp_path):
    options = "--seed 5 --num 2 --sampler ddim --steps 4".split()
    options += "--guidance 3 --guidance-start 0.5 --negative one".split()
    files = "--npz s.npz --out g.png".split()
    result = run(
        "sample", "a handwritten seven", "the digit 3", "--model", tiny_folder, *options, *files
    )
    assert result.exit_code == 0, result.output
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder).use_sampler("ddim")
    expected = pipeline(
        ["a handwritten seven", "the digit 3"],
        num_inference_steps=4,
        guidance_scale=3.0,
        guidance_start=0.5,
        negative_prompt="one",
        num_images_per_prompt=2,
        generator=torch.Generator().manual_seed(5),
        progress=False,
    )
    with np.load(tmp_path / "s.npz") as saved:
        assert sorted(saved) == ["images", "prompts"]
        assert saved["images"].shape == (4, 28, 28) and saved["images"].dtype == np.uint8
        assert np.array_equal(saved["images"], to_pixels(expected, 28))
        assert saved["prompts"].tolist() == ["a handwritten seven"] * 2 + ["the digit 3"] * 2
        picture = np.asarray(Image.open(tmp_path / "g.png"))
        assert np.array_equal(
            picture, saved["images"].reshape(2, 2, 28, 28).swapaxes(1, 2).reshape(56, 56)
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.png", "s.npz"]


def test_sample_uses_the_models_defaults_and_writes_grid_png(tiny_folder, tmp_path):
    assert run("sample", "seven", "--model", tiny_folder).exit_code == 0
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder)
    expected = pipeline("seven", generator=torch.Generator().manual_seed(0), progress=False)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "grid.png")), to_pixels(expected, 28)[0])


def test_sample_without_a_model_takes_the_shipped_one(weights, tmp_path):
    assert run("sample", "seven", "--npz", "s.npz").exit_code == 0
    assert not (tmp_path / "grid.png").exists()  # --npz was asked for, a picture was not
    assert np.load(tmp_path / "s.npz")["images"].shape == (1, 28, 28)


def test_a_prompts_file_has_one_prompt_a_line(tiny_folder, tmp_path):
    (tmp_path / "p.txt").write_bytes("\ufeffa handwritten seven\r\n\n  the digit 3 \nnine".encode())
    result = run(
        "sample",
        "one",
        "--prompts-file",
        "p.txt",
        "--model",
        tiny_folder,
        "--npz",
        "new/folder/s.npz",
    )
    assert result.exit_code == 0, result.output
    prompts = np.load(tmp_path / "new/folder/s.npz")["prompts"]
    assert prompts.tolist() == ["one", "a handwritten seven", "the digit 3", "nine"]


def test_a_prompt_that_training_never_saw_or_that_is_too_long_draws_with_one_line(
    tiny_folder, tmp_path
):
    result = run("sample", "a purple zebra", "--model", tiny_folder)
    assert result.exit_code == 0 and (tmp_path / "grid.png").exists()
    warning = [line for line in result.stderr.splitlines() if line.startswith("minildm:")]
    assert len(warning) == 1 and "'purple', 'zebra'" in warning[0]
    result = run("sample", "seven " * 30 + "nine", "--model", tiny_folder)
    assert result.exit_code == 0 and "cut off" in result.stderr and "nine" in result.stderr


def test_progress_goes_to_stderr_and_results_to_stdout(tiny_folder):
    result = run("sample", "seven", "--model", tiny_folder)
    assert result.stdout == "1 image: grid.png\n" and "step" in result.stderr


def test_the_picture_has_a_row_for_each_prompt_or_is_nearly_square(tiny_folder):
    run("sample", "one", "two", "three", "--model", tiny_folder, "--num", 2, "--steps", 1)
    assert Image.open("grid.png").size == (2 * 28, 3 * 28)
    run("sample", "one", "two", "three", "four", "five", "--model", tiny_folder, "--steps", 1)
    assert Image.open("grid.png").size == (3 * 28, 2 * 28)


def test_an_interrupted_write_leaves_the_old_file(tiny_folder, tmp_path, monkeypatch):
    (tmp_path / "s.npz").write_bytes(b"old")
    monkeypatch.setattr("minildm.cli.saving._write_header", lambda *_: 1 / 0)
    result = run("sample", "seven", "--model", tiny_folder, "--npz", "s.npz")
    assert isinstance(result.exception, ZeroDivisionError)
    assert (tmp_path / "s.npz").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tiny_folder, tmp_path, monkeypatch):
    (tmp_path / "s.npz").write_bytes(b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("minildm.cli.saving._write_header", full)
    result = run("sample", "seven", "--model", tiny_folder, "--npz", "s.npz")
    assert result.exit_code == 2
    reason = "could not be written (No space left on device); what it held before is whole"
    assert result.stderr.splitlines()[-1] == f"minildm: s.npz: {reason}"
    assert (tmp_path / "s.npz").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


# ---------------------------------------------------------------------------------------- evaluate


@pytest.fixture
def small_mnist(monkeypatch):
    def load(split):
        images = (
            torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(len(split))) * 2 - 1
        )
        return ImageData(images, torch.arange(40) % 10, CLASS_NAMES["mnist"])

    monkeypatch.setitem(evaluation.LOADERS, "mnist", load)


def test_evaluate_prints_every_score_beside_its_floor(weights, small_mnist, tmp_path):
    options = "--samples 20 --steps 2 --guidance 1.5 --guidance-start 0.5 --seed 3".split()
    result = run("evaluate", *options, "--sampler", "ddim", "--json", "scores.json")
    assert result.exit_code == 0, result.output
    for words in (
        "prompt accuracy",
        "Fréchet",
        "kernel",
        "precision",
        "recall",
        "floor",
        "20 samples, seed 3",
        "2 steps of ddim",
        "guidance 1.5 from 50% of the steps on",
        "parameters",
    ):
        assert words in result.stdout
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["model"] == "mnist" and scores["samples"] == 20
    assert (
        set(scores["scores"])
        == set(scores["floor"])
        == {"accuracy", "frechet", "kernel", "precision", "recall"}
    )


def test_sample_and_evaluate_steer_away_from_a_bad_guide(
    weights, tiny_folder, small_mnist, tmp_path
):
    worse = tiny_pipeline(1)
    worse.vae.load_state_dict(tiny_pipeline().vae.state_dict())
    worse.save_pretrained("worse", torch.float16)
    options = "--bad-guide worse --autoguidance 3 --guidance 1.5 --seed 5".split()
    result = run("sample", "the digit 3", "--model", tiny_folder, *options, "--npz", "s.npz")
    assert result.exit_code == 0, result.output
    pipeline, bad = map(StableDiffusionPipeline.from_pretrained, (tiny_folder, "worse"))
    expected = AutoguidedPipeline(pipeline, bad, 3.0)(
        "the digit 3",
        guidance_scale=1.5,
        generator=torch.Generator().manual_seed(5),
        progress=False,
    )
    with np.load("s.npz") as saved:
        assert np.array_equal(saved["images"], to_pixels(expected, 28))

    result = run("evaluate", *options, *"--samples 20 --steps 2 --json scores.json".split())
    assert result.exit_code == 0, result.output
    assert "guidance 1.5 and autoguidance 3, " in result.stdout
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["bad_guide"], scores["autoguidance_scale"]) == ("worse", 3.0)


# ------------------------------------------------------------------------------------------- train


@pytest.fixture
def training(monkeypatch):
    """What the command asks of `runs.train`."""
    calls = []

    def train(*arguments, **options):
        bound = signature.bind(*arguments, **options)
        calls.append(bound.arguments)

    signature = inspect.signature(runs.train)
    monkeypatch.setattr(runs, "train", train)
    return calls


def test_train_passes_on_what_it_was_told(training, tmp_path):
    assert (
        run(
            "train",
            "--preset",
            "mnist",
            "--minutes",
            0.5,
            "--out",
            "runs/a",
            "--seed",
            7,
            "--resume",
        ).exit_code
        == 0
    )
    options = "--steps 3,4,5 --device cpu --snapshot 0.1".split()
    result = run("train", "--out", "runs/b", *options)
    assert result.exit_code == 0
    assert result.output == "trained: runs/b, which draws with: minildm sample '…' --model runs/b\n"
    first, second = training
    assert list(first.values())[:2] == ["mnist", Path("runs/a")]
    assert (first["minutes"], first["seed"], first["resume"], first["steps"]) == (
        0.5,
        7,
        True,
        None,
    )
    assert list(second.values())[:2] == ["mnist", Path("runs/b")]
    assert (second["minutes"], second["seed"], second["resume"], second["steps"]) == (
        4,
        0,
        False,
        (3, 4, 5),
    )
    assert (second["device"], second["snapshot"], first["snapshot"]) == ("cpu", 0.1, None)


def test_an_interrupted_training_says_how_to_go_on(monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train", stop)
    one_line(run("train", "--out", "runs/a"), "interrupted", "--resume", status=130)


def test_interrupting_anything_else_is_one_line_too(tiny_folder, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(StableDiffusionPipeline, "denoise", stop)
    result = run("sample", "seven", "--model", tiny_folder)
    assert result.exit_code == 130 and result.stderr.splitlines()[-1] == "minildm: interrupted"
    assert "Traceback" not in result.output and not Path("grid.png").exists()


# -------------------------------------------------------------------------------------------- data


def test_data_shows_what_there_is():
    result = run("data", "mnist")
    assert result.exit_code == 0, result.output
    assert "60,000 images 1x28x28" in result.stdout and "10,000 images" in result.stdout


def test_data_says_where_all_of_cifar10_lies_and_what_is_wrong_with_it(monkeypatch, tmp_path):
    arrays = {}
    for split, count in (("train", 50), ("test", 20)):
        pixels, labels = np.zeros((count, 32, 32, 3), np.uint8), np.arange(count, dtype=np.uint8)
        arrays |= {f"x_{split}": pixels, f"y_{split}": labels % 10}
        digest = hashlib.sha256(pixels.tobytes() + (labels % 10).tobytes()).hexdigest()
        monkeypatch.setitem(datasets.CIFAR_SHA256, split, digest)
    folder = tmp_path / "sets"
    folder.mkdir()
    np.savez(folder / "cifar10.npz", **arrays)
    monkeypatch.setenv("MINILDM_DATA", str(folder))
    result = run("data", "cifar10")
    assert result.exit_code == 0, result.output
    assert "cifar10 (subset) train: 5,000 images 3x32x32" in result.stdout
    assert "cifar10 (full) train: 50 images 3x32x32, 10 classes" in result.stdout
    assert str(folder / "cifar10.npz") in result.stdout.splitlines()[-1]

    np.savez(folder / "cifar10.npz", **{**arrays, "x_test": arrays["x_test"] + 1})
    result = run("data", "cifar10")
    one_line(result, "cifar10.npz: truncated or altered, expected test", "unset MINILDM_DATA")


# ------------------------------------------------------------------------------------------ errors


def damaged(folder, what):
    """The tiny model, with one thing wrong."""
    unet = folder / "unet/diffusion_pytorch_model.safetensors"
    if what == "truncated":
        unet.write_bytes(unet.read_bytes()[:1000])
    elif what == "garbage":
        unet.write_bytes(b"\x80\x04 a pickle, say")
    elif what == "missing":
        unet.unlink()
    elif what == "of another model":
        shutil.copy(folder / "vae/diffusion_pytorch_model.safetensors", unet)
    elif what == "of another size":
        config = folder / "unet/config.json"
        config.write_text(
            config.read_text().replace('"layers_per_block": 1', '"layers_per_block": 2')
        )
    elif what == "a folder without index":
        (folder / "model_index.json").unlink()
    else:
        index = folder / "model_index.json"
        index.write_text(index.read_text().replace("UNet2DConditionModel", "UNet3DConditionModel"))


@pytest.mark.parametrize("command", ["sample seven", "evaluate --samples 10"])
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("truncated", ["unet", "expected a whole safetensors file"]),
        ("garbage", ["unet", "expected a whole safetensors file"]),
        ("missing", ["unet", "no such file"]),
        ("of another model", ["unet", "missing", "unexpected"]),
        ("of another size", ["unet", "missing"]),
        ("a folder without index", ["model_index.json", "no such file"]),
        ("foreign class", ["expected unet to be UNet2DConditionModel", "UNet3DConditionModel"]),
    ],
)
def test_a_bad_checkpoint_is_one_line(tiny_folder, tmp_path, command, what, words):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    damaged(folder, what)
    one_line(run(*command.split(), "--model", folder), *words)
    assert not Path("grid.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("sample seven --model MODEL --sampler magic", ["dpmpp_2m", "got 'magic'"]),
        (
            "sample seven --model MODEL --sampler flow_euler",
            ["fits this model", "got 'flow_euler'"],
        ),
        ("sample seven --model minst", ["folder or a shipped model", "got 'minst'"]),
        ("sample seven --model MODEL --steps 0", ["num_inference_steps", "got 0"]),
        ("sample seven --model MODEL --steps -5", ["num_inference_steps", "got -5"]),
        ("sample seven --model MODEL --steps 2000", ["1 to 1000", "got 2000"]),
        (
            "sample seven --model MODEL --steps many",
            ["--steps", "expected a whole number", "got 'many'"],
        ),
        ("sample seven --model MODEL --guidance nan", ["guidance_scale of 0 or more", "got nan"]),
        ("sample seven --model MODEL --guidance-start 1", ["guidance_start in [0, 1)", "got 1"]),
        ("sample seven --model MODEL --guidance inf", ["guidance_scale of 0 or more", "got inf"]),
        (
            "sample seven --model MODEL --bad-guide MODEL --autoguidance 0.5",
            ["autoguidance_scale of 1 or more", "got 0.5"],
        ),
        ("sample seven --model MODEL --bad-guide nowhere", ["expected a folder", "'nowhere'"]),
        ("sample seven --model MODEL --autoguidance 2", ["expected --bad-guide", "got none"]),
        ("train --out runs/a --snapshot 2", ["part of the steps in (0, 1]", "got 2"]),
        (
            "sample --model MODEL --prompts-file .",
            ["--prompts-file", "expected a text file, got ."],
        ),
        ("evaluate --model MODEL --samples -10", ["multiple of the 10 classes, got -10"]),
        ("sample seven --model MODEL --num 0", ["--num: expected 1 or more, got 0"]),
        ("sample seven --model MODEL --seed -1", ["--seed", "expected a number from 0", "got -1"]),
        ("sample seven --model MODEL --out folder.png", ["got the folder", "folder.png"]),
        ("sample seven --model MODEL --out grid.txt", [".png", "grid.txt"]),
        ("sample seven --model MODEL --npz grid.png", [".npz", "grid.png"]),
        (
            "sample seven --model MODEL --out file/grid.png",
            ["expected a folder to write to", "file"],
        ),
        (
            "sample seven --model MODEL --out /proc/nowhere/grid.png",
            ["expected a folder to write to", "/proc/nowhere"],
        ),
        ("sample seven --model MODEL --device tpu", ["--device", "cpu", "got 'tpu'"]),
        ("sample seven --model MODEL --magic", ["--magic"]),
        ("sample --model MODEL", ["expected a prompt"]),
        (
            "sample --model MODEL --prompts-file empty.txt",
            ["expected one prompt a line", "empty.txt"],
        ),
        ("sample --model MODEL --prompts-file absent.txt", ["--prompts-file", "absent.txt"]),
        ("sample --model MODEL --prompts-file binary", ["UTF-8", "binary"]),
        ("sample --model MODEL --prompts-file folder.png", ["folder.png"]),
        (
            "sample seven --model MODEL --num 100000000000000000000",
            ["expected at most 10,000,000 images, got 1 prompts and --num 1000000000"],
        ),
        ("evaluate --model minst", ["folder or a shipped model", "got 'minst'"]),
        ("evaluate --model MODEL --samples 0", ["multiple of the 10 classes, got 0"]),
        ("evaluate --model MODEL --samples 15", ["multiple of the 10 classes", "got 15"]),
        ("evaluate --model MODEL --steps 0 --samples 10", ["num_inference_steps", "got 0"]),
        ("evaluate --model MODEL --sampler magic", ["dpmpp_2m", "got 'magic'"]),
        (
            "evaluate --model MODEL --json file/scores.json",
            ["expected a folder to write to", "file"],
        ),
        ("train", ["--out"]),
        ("train --out file", ["expected a folder to write to", "file"]),
        ("train --out runs --preset imagenet", ["expected a preset of", "got 'imagenet'"]),
        ("train --out runs --minutes 1e308", ["--minutes", "at most 527,040 (a year), got 1e+308"]),
        ("train --out runs --steps " + 400 * "9" + ",1,1", ["--steps", "less than a thousand"]),
        ("train --out runs --minutes 0", ["--minutes", "got 0"]),
        ("train --out runs --minutes -1", ["--minutes", "got -1"]),
        ("train --out runs --minutes nan", ["--minutes", "got nan"]),
        ("train --out runs --steps 100", ["--steps", "three", "got '100'"]),
        ("train --out runs --steps 1,2,x", ["--steps", "three", "got '1,2,x'"]),
        ("train --out runs --steps 1,0,3", ["--steps", "three", "got '1,0,3'"]),
        ("data imagenet", ["mnist, fashion_mnist, cifar10", "got 'imagenet'"]),
        ("data", ["NAME"]),
        ("draw seven", ["draw"]),
        ("--magic", ["--magic"]),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_status_2(
    weights, small_mnist, tiny_folder, tmp_path, arguments, words
):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "empty.txt").write_text("\n  \n")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    one_line(
        run(*(str(tiny_folder) if word == "MODEL" else word for word in arguments.split())), *words
    )
    assert not Path("grid.png").exists()


def test_a_folder_without_a_name_is_not_the_one_we_are_in():
    one_line(run("train", "--out", ""), "--out", "expected the name of a folder, got ''")


def test_a_damaged_shipped_model_names_the_command_that_mends_it(weights):
    file = weights / "mnist/vae/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    one_line(run("sample", "seven"), file, "expected sha256", "mend it with: ")


def test_sides_that_the_autoencoder_cannot_divide_are_a_value_error_of_one_line(tiny):
    with pytest.raises(ValueError, match="multiples of 4, got 30 x 32") as error:
        tiny("seven", height=30)
    assert "\n" not in str(error.value)


# ----------------------------------------------------------------------------------------- process


def test_help_names_every_sampler():
    result = run("sample", "--help")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in [*SAMPLERS, "_karras", "_exponential"])


@pytest.mark.parametrize("command", "train sample lora invert controlnet data evaluate".split())
def test_help_says_what_an_option_wants_and_nothing_for_a_switch(command):
    """Of a type of Python's, `<bool>` above all, nobody knows what to write."""
    shown = run(command, "--help").stdout
    assert re.findall(r"--(?!help)[\w-]+\s+<\w+>", shown) == []
    last = next(line for line in shown.splitlines() if "Show this message" in line)
    assert last.index("Show this message") < 42, shown  # or the text is a narrow column


def in_a_process(*arguments, folder, module="minildm.cli"):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_as_a_process_it_draws_and_fails_the_same_way(tiny_folder, tmp_path):
    drawn = in_a_process("sample", "seven", "--model", tiny_folder, folder=tmp_path)
    assert drawn.returncode == 0 and drawn.stdout == "1 image: grid.png\n", drawn.stderr
    failed = in_a_process("sample", "seven", "--model", tmp_path, folder=tmp_path)
    assert failed.returncode == 2 and failed.stdout == ""
    assert failed.stderr.startswith("minildm: ") and failed.stderr.count("\n") == 1


def test_the_package_is_a_command_too(tmp_path):
    shown = in_a_process("--help", folder=tmp_path, module="minildm")
    assert shown.returncode == 0 and "Usage: minildm" in shown.stdout


def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    command = f"{sys.executable} -m minildm.cli data mnist | head -1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert shown.stdout.startswith("mnist train: 60,000") and shown.stderr == ""


@pytest.mark.parametrize("command", ["train --out a", "sample seven", "evaluate", "data mnist"])
def test_ctrl_c_while_torch_is_being_imported_is_one_line(tmp_path, command):
    """The real torch aborts, with "terminate called" and a core dump, if an exception reaches its
    C++; so does this."""
    (tmp_path / "torch.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(10)\n"
        "except KeyboardInterrupt:\n"
        "    os.abort()\n"
    )
    stopped = in_a_process(*command.split(), folder=tmp_path)
    assert stopped.returncode == 130 and stopped.stderr == "minildm: interrupted\n"
