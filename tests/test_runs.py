"""minildm.training.runs: the whole chain, killed and resumed, recorded, alone and by two
processes."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from minildm.training import PRESETS, runs, train

STEPS = (6, 20, 40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of an uninterrupted training of the whole chain."""
    out = tmp_path_factory.mktemp("run") / "model"
    train("tiny", out, steps=STEPS, device="cpu", progress=False)
    return out


def weights(folder):
    return {file.parent.name: load_file(file) for file in folder.glob("*/*.safetensors")}


def assert_same_weights(a, b):
    assert weights(a).keys() == weights(b).keys() == {"vae", "unet", "text_encoder"}
    for part, tensors in weights(a).items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, weights(b)[part][name]), f"{part}: {name} differs"


def test_a_run_records_what_it_did(trained):
    log = json.loads((trained / "training.json").read_text())
    assert log["finished"] and log["seed"] == 0
    assert tuple(log["steps"].values()) == STEPS == tuple(map(len, log["losses"].values()))
    assert sorted(file.name for file in trained.glob("*.safetensors")) == []


def test_killed_at_random_moments_and_resumed_it_ends_with_the_same_weights(trained, tmp_path):
    out = tmp_path / "model"
    script = (
        "import sys, minildm.training.trainer as t; t.SAVE_EVERY = 0.2\n"
        "import minildm.training as r\n"
        f"r.train('tiny', sys.argv[1], steps={STEPS}, resume=True, device='cpu', progress=False)"
    )
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    moments, kills = random.Random(0), 0

    def last_written():
        return max((file.stat().st_mtime_ns for file in out.glob("training*")), default=0)

    while True:
        before = last_written()
        process = subprocess.Popen([sys.executable, "-c", script, out], env=environment)
        while process.poll() is None and last_written() == before:
            time.sleep(0.01)  # it is not at work yet
        if kills < 4:
            time.sleep(0.7 * moments.random())
            process.kill()
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
    assert kills >= 2
    assert_same_weights(trained, out)


def test_a_recipe_of_photographs_trains_the_same_when_it_is_resumed(tmp_path, monkeypatch):
    """With pictures held out and mirrored, a discriminator and an average of the autoencoder's
    weights."""
    stage = replace(PRESETS["tiny"].autoencoder, ema=0.2)
    recipe = replace(
        PRESETS["tiny"],
        autoencoder=stage,
        held_out=100,
        augmented=True,
        discriminator_weight=0.5,
        discriminator_width=8,
    )
    options = {"steps": STEPS, "device": "cpu", "progress": False}
    train(recipe, tmp_path / "whole", **options)

    save = runs.write_tensors

    def interrupted(file, tensors):
        save(file, tensors)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "write_tensors", interrupted)  # as soon as a stage is done
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "resumed", resume=True, **options)
    monkeypatch.setattr(runs, "write_tensors", save)
    train(recipe, tmp_path / "resumed", resume=True, **options)
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")
    logs = [
        json.loads((tmp_path / name / "training.json").read_text()) for name in ("whole", "resumed")
    ]
    assert logs[0]["held_out_accuracy"] == logs[1]["held_out_accuracy"] <= 1
    assert logs[0]["losses"] == logs[1]["losses"]


def test_a_folder_that_holds_a_run_is_not_overwritten(trained):
    with pytest.raises(ValueError, match="holds a training already: --resume"):
        train("tiny", trained, steps=STEPS, device="cpu", progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "expected to go on with seed 0, got 1"),
        (
            {"recipe": replace(PRESETS["tiny"], kl_weight=1.0)},
            "of this recipe, got one with another kl_weight$",
        ),
        (
            {"steps": (9, 9, 9)},
            rf"expected the recorded steps \({','.join(map(str, STEPS))}\) or none",
        ),
    ],
)
def test_another_recipe_seed_or_length_does_not_resume_it(trained, changes, message):
    with pytest.raises(ValueError, match=message):
        train(
            **{
                "recipe": "tiny",
                "out": trained,
                "steps": STEPS,
                "device": "cpu",
                "resume": True,
                **changes,
            }
        )


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seed": 0}'])
def test_a_record_that_is_none_is_named(tmp_path, content):
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(ValueError, match=r"training.json: expected the record of a training"):
        train("tiny", tmp_path, steps=STEPS, device="cpu", resume=True)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"recipe": "cats"}, "expected a preset of mnist, scenes, cifar10, tiny, got 'cats'"),
        ({"steps": (1, 0, 1)}, "expected three positive numbers of steps"),
        ({"minutes": 0}, "expected minutes > 0, or steps, got 0"),
        ({"minutes": -1}, "expected minutes > 0, or steps, got -1"),
        ({"device": "tpu", "steps": (1, 1, 1)}, "expected a device that is here"),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        train(**{"recipe": "tiny", "out": tmp_path / "x", "progress": False, **arguments})


def test_two_processes_have_the_loss_curve_of_one(trained, tmp_path):
    # "multi_gpu" is accelerate's word for one process per device; with --device cpu each has the
    # processor.
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command += [
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        port,
    ]
    command += [
        "-m",
        "minildm.cli",
        "train",
        "--preset",
        "tiny",
        "--out",
        str(tmp_path / "model"),
        "--device",
        "cpu",
    ]
    command += ["--steps", ",".join(map(str, STEPS))]
    subprocess.run(
        command,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
    )
    one, two = (
        json.loads((folder / "training.json").read_text())
        for folder in (trained, tmp_path / "model")
    )
    assert (one["processes"], two["processes"]) == (1, 2)
    for stage, losses in one["losses"].items():
        torch.testing.assert_close(
            torch.tensor(two["losses"][stage]), torch.tensor(losses), rtol=1e-4, atol=1e-4
        )
