"""minildm.training.runs: the whole chain, killed and resumed, recorded, alone and by two
processes."""

import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import scipy.stats
import torch
from safetensors.torch import load_file
from torch import nn

from minildm.data import CLASS_NAMES, LOADERS, ImageData
from minildm.files import alone_in
from minildm.pipelines import AutoguidedPipeline, StableDiffusionPipeline
from minildm.training import (
    PRESETS,
    ClassifierLoss,
    runs,
    seeded,
    train,
    train_examiner,
    trainer,
)

STEPS = (6, 20, 40)
STAGES = ("perceptual_net", "autoencoder", "denoiser")


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
        return max((file.stat().st_mtime_ns for file in out.glob("*.safetensors")), default=0)

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


EARLY = {"steps": (1, 1, 40), "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def snapshotted(tmp_path_factory):
    """The folder of a training that keeps a snapshot after a quarter of its steps, and the average
    of the weights as it was then."""
    averages, update = [], trainer.EMA.update

    def watched(self, step):
        update(self, step)
        if step == 9:
            averages.append([average.clone() for average in self.shadow_params])

    out = tmp_path_factory.mktemp("early") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.EMA, "update", watched)
        train(SMALL, out, snapshot=0.25, **EARLY)
    return out, averages[0]


def snapshot_of(folder):
    files = sorted((folder / "snapshot").glob("*/*.safetensors"))
    assert [file.parent.name for file in files] == ["text_encoder", "unet", "vae"]
    return {(f.parent.name, name): part for f in files for name, part in load_file(f).items()}


def assert_same_snapshot(a, b):
    a, b = snapshot_of(a), snapshot_of(b)
    assert a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_a_snapshot_is_the_average_as_it_was_and_a_model_that_guides_the_finished_one(snapshotted):
    out, averages = snapshotted
    finished, kept = map(StableDiffusionPipeline.from_pretrained, (out, out / "snapshot"))
    assert recorded(out)["snapshot"] == 0.25 and "snapshot" not in finished.card
    assert kept.card["snapshot"] == 10 and kept.card["steps"]["denoiser"] == 40
    stored = [*kept.unet.parameters(), *kept.text_encoder.parameters()]
    for parameter, average in zip(stored, averages, strict=True):
        assert torch.equal(parameter, average.half().float())
    for name, parameter in kept.vae.named_parameters():
        assert torch.equal(parameter, finished.vae.get_parameter(name).half().float())
    assert {tensor.dtype for tensor in snapshot_of(out).values()} == {torch.float16}
    AutoguidedPipeline(finished, kept, 2.0)


def test_a_training_that_keeps_no_snapshot_ends_with_the_same_weights(snapshotted, tmp_path):
    train(SMALL, tmp_path, **EARLY)
    assert_same_weights(snapshotted[0], tmp_path)
    assert not (tmp_path / "snapshot").exists()


def test_a_resumed_training_writes_the_same_snapshot(snapshotted, tmp_path, monkeypatch):
    """Stopped before it, in the very step that writes it and later; what is asked once holds."""
    for stop in (3, 9, 30):

        def stopped(self, step, stop=stop, update=trainer.EMA.update):
            update(self, step)
            if step == stop:
                os.kill(os.getpid(), signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(trainer.EMA, "update", stopped)
            with pytest.raises(KeyboardInterrupt):
                train(SMALL, tmp_path, snapshot=0.25 if stop == 3 else None, resume=True, **EARLY)
        assert (tmp_path / "snapshot" / "model_index.json").exists() == (stop >= 9)
    train(SMALL, tmp_path, resume=True, **EARLY)
    assert_same_weights(snapshotted[0], tmp_path)
    assert_same_snapshot(snapshotted[0], tmp_path)


def test_a_snapshot_killed_in_the_middle_is_written_again(snapshotted, tmp_path, monkeypatch):
    def killed(self, folder, *precision):
        self.unet.save_pretrained(folder / "unet", torch.float32)  # no more than that
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StableDiffusionPipeline, "save_pretrained", killed)
        with pytest.raises(KeyboardInterrupt):
            train(SMALL, tmp_path, snapshot=0.25, **EARLY)
    train(SMALL, tmp_path, resume=True, **EARLY)
    assert_same_snapshot(snapshotted[0], tmp_path)


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
        ({"snapshot": 0.1}, "expected to go on with no snapshot, got one after 0.1$"),
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
    "wrong",
    [
        {"recipe": "tiny"},
        {"seed": "0"},
        {"minutes": "four"},
        {"steps": [6, 20, 40]},
        {"steps": {"perceptual_net": "6"}},
        {"seconds": 3},
        {"seconds": {"perceptual_net": None}},
        {"losses": []},
        {"threads": 1.5},
        {"finished": "no"},
        {"minutes": True},
        {"snapshot": "half"},
        {"snapshot": 1.5},
        {"data": []},
        {"data": {"pictures": 3}},
        {"data": {"pictures": "3", "fingerprint": "x"}},
    ],
)
def test_a_record_with_another_kind_of_value_names_it(trained, tmp_path, wrong):
    log = json.loads((trained / "training.json").read_text()) | {"finished": False}
    (tmp_path / "training.json").write_text(json.dumps(log | wrong))
    key, value = next(iter(wrong.items()))
    message = f"training.json: expected the record of a training, got {key} {value!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        train("tiny", tmp_path, steps=STEPS, device="cpu", resume=True, progress=False)


def interrupted_in_its_first_stage(out, monkeypatch, **options):
    """A training of which only a state is left, as after Ctrl-C."""

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "stop_signal", after(3))
        with pytest.raises(KeyboardInterrupt):
            train("tiny", out, steps=STEPS, device="cpu", progress=False, **options)
    assert (out / "training_state.safetensors").is_file()


def after(steps):
    """A `stop_signal` that comes in this step."""

    @contextmanager
    def stop_signal():
        asked = itertools.count()
        yield lambda: next(asked) // 2 >= steps - 1  # it is asked twice in a step

    return stop_signal


def test_another_training_does_not_go_on_from_a_state_that_is_not_its_own(tmp_path, monkeypatch):
    out = tmp_path / "model"
    interrupted_in_its_first_stage(out, monkeypatch)
    with pytest.raises(ValueError, match="holds a training already: --resume"):
        train("tiny", out, steps=STEPS, seed=1, device="cpu", progress=False)
    with pytest.raises(ValueError, match="expected to go on with seed 0, got 1"):
        train("tiny", out, steps=STEPS, seed=1, device="cpu", progress=False, resume=True)
    (out / "training.json").unlink()
    for resume in (False, True):
        with pytest.raises(ValueError, match="whose record, training.json, is gone"):
            train("tiny", out, steps=STEPS, device="cpu", progress=False, resume=resume)


def test_two_trainings_do_not_write_into_one_folder(tmp_path):
    with alone_in(tmp_path):
        with pytest.raises(ValueError, match="expected a folder that nobody else writes to"):
            train("tiny", tmp_path, steps=STEPS, device="cpu", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"recipe": "cats"},
            "expected a preset of mnist, fashion_mnist, scenes, cifar10, tiny, got 'cats'",
        ),
        ({"steps": (1, 0, 1)}, "expected three positive numbers of steps"),
        ({"minutes": 0}, "expected minutes > 0, or steps, got 0"),
        ({"minutes": 1e308}, "expected minutes > 0, or steps, got 1e"),
        ({"minutes": -1}, "expected minutes > 0, or steps, got -1"),
        ({"snapshot": 0}, r"expected a snapshot after a part of the steps in \(0, 1\], got 0"),
        ({"snapshot": 1.5}, "expected a snapshot after a part of the steps .*, got 1.5"),
        ({"snapshot": float("nan")}, "expected a snapshot after a part of the steps .*, got nan"),
        ({"device": "tpu", "steps": (1, 1, 1)}, "expected a device that is here"),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        train(**{"recipe": "tiny", "out": tmp_path / "x", "progress": False, **arguments})


def test_every_stage_is_trained_as_its_recipe_says(tmp_path, monkeypatch):
    """Its rate, its batch, its weights, its share of prompts left out; on latents of deviation 1,
    which mean and deviation of z share."""
    tiny = PRESETS["tiny"]
    recipe = replace(
        tiny,
        num_images=100,
        perceptual_net=replace(tiny.perceptual_net, learning_rate=1e-3, batch_size=10),
        autoencoder=replace(tiny.autoencoder, learning_rate=2e-3, batch_size=20),
        denoiser=replace(
            tiny.denoiser, learning_rate=3e-3, batch_size=40, ema=0.23, weight_decay=0.07
        ),
        perceptual_weight=0.7,
        kl_weight=0.11,
        prompt_dropout=0.35,
    )
    trainers = {}
    monkeypatch.setattr(
        runs.Run, "run_stage", lambda self, trainer, model: trainers.update({trainer.name: trainer})
    )
    log = {
        "minutes": None,
        "steps": dict.fromkeys(STAGES, 8),
        "seconds": {},
        "losses": {},
        "finished": False,
    }
    log |= {"seed": 5, "hardware": "", "threads": 1, "processes": 1}
    accelerator = SimpleNamespace(is_main_process=False, wait_for_everyone=lambda: None)
    run = runs.Run(recipe, tmp_path, accelerator, log, seed=5, progress=False)
    pipeline = run.train()
    for stage, its in trainers.items():
        asked = getattr(recipe, stage)
        assert its.learning_rate == asked.learning_rate
        assert {len(part) for part in its.batch(2)} == {asked.batch_size}
        assert (its.ema, its.weight_decay) == (asked.ema, asked.weight_decay)
    loss = trainers["autoencoder"].loss
    assert (loss.perceptual_weight, loss.kl_weight) == (0.7, 0.11)
    assert loss.perceptual_net is trainers["perceptual_net"].loss.classifier
    assert not any(p.requires_grad for p in loss.perceptual_net.parameters())
    loss = trainers["denoiser"].loss
    assert loss.scheduler.config.prediction_type == recipe.scheduler["prediction_type"]
    assert loss.scheduler.config.beta_schedule == recipe.scheduler["beta_schedule"]
    batches = [trainers["denoiser"].batch(step) for step in range(40)]
    nothing = pipeline.tokenizer("")[0]
    left_out = sum(int((batch[3] == nothing).all(1).sum()) for batch in batches)
    assert scipy.stats.binomtest(left_out, 1600, 0.35).pvalue > 1e-3
    latents = torch.cat([batch[0] for batch in batches])
    assert latents.std().item() == pytest.approx(1, abs=0.03)
    image = runs.load_text_image("mnist", 100).images
    z = pipeline.vae.encode(image)
    deviation = (z.mean.var() + z.std.square().mean()).sqrt().item()
    assert pipeline.vae.config.scaling_factor == pytest.approx(1 / deviation, rel=1e-4)
    assert pipeline.card["seed"] == 5 and pipeline.card["dataset"] == "mnist"
    first = [p.sum().item() for p in pipeline.unet.parameters()]
    other = runs.Run(recipe, tmp_path, accelerator, log, seed=6, progress=False).train()
    assert first != [p.sum().item() for p in other.unet.parameters()]


def test_random_weights_depend_on_the_seed_alone_and_disturb_nobody_elses():
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    first = seeded(7, nn.Linear, {"in_features": 3, "out_features": 2})
    assert torch.equal(torch.randn(3), expected)
    again = seeded(7, nn.Linear, {"in_features": 3, "out_features": 2})
    other = seeded(8, nn.Linear, {"in_features": 3, "out_features": 2})
    assert torch.equal(first.weight, again.weight) and not torch.equal(first.weight, other.weight)


def test_an_examiner_sees_changed_pictures_and_its_card_has_its_accuracy_on_the_test_images(
    tmp_path, monkeypatch
):
    def load(split):
        count = {"train": 60, "test": 30}[split]
        generator = torch.Generator().manual_seed(count)
        images = torch.rand(count, 1, 28, 28, generator=generator) * 2 - 1
        labels = torch.arange(count) % {"train": 10, "test": 7}[split]  # so that the rates differ
        return ImageData(images, labels, CLASS_NAMES["mnist"])

    seen, train_images = [], load("train").images
    monkeypatch.setitem(LOADERS, "mnist", load)
    forward = ClassifierLoss.forward
    monkeypatch.setattr(
        ClassifierLoss,
        "forward",
        lambda self, images, labels: seen.append(images) or forward(self, images, labels),
    )
    examiner = train_examiner(tmp_path, steps=3, seed=1, progress=False)
    assert len(seen) == 3 and not examiner.training
    known = {image.sum().item() for image in train_images}
    assert not any(image.sum().item() in known for images in seen for image in images)
    assert not torch.equal(seen[0], seen[1])
    test = load("test")
    with torch.no_grad():
        right = examiner(test.images).argmax(1) == test.labels
    card = json.loads((tmp_path / "minildm.json").read_text())
    assert card["accuracy"] == pytest.approx(right.double().mean().item(), abs=1e-6)
    assert (card["steps"], card["seed"], card["dataset"]) == (3, 1, "mnist")
    stored = load_file(next(tmp_path.glob("*.safetensors")))
    assert {tensor.dtype for tensor in stored.values() if tensor.is_floating_point()} == {
        torch.float16
    }


TINY = PRESETS["tiny"]
# its steps are cheaper still
SMALL = replace(
    TINY,
    num_images=60,
    **{stage: replace(getattr(TINY, stage), batch_size=4) for stage in STAGES},
)


@pytest.fixture
def clock(monkeypatch):
    """Time in which nothing but a step of training lasts, and that a second."""
    clock, new_trainer = SimpleNamespace(now=5000.0), runs.new_trainer

    def read():
        return clock.now

    def slow(name, stage, loss, batches):
        def batch(step):
            clock.now += 1.0
            return batches(step)

        return new_trainer(name, stage, loss, batch)

    for module in (runs, trainer):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=read, perf_counter=read))
    monkeypatch.setattr(runs, "new_trainer", slow)
    return clock


def recorded(folder):
    return json.loads((folder / "training.json").read_text())


def test_a_training_of_so_many_minutes_takes_them_and_each_stage_its_share_of_what_is_left(
    clock, tmp_path
):
    """Of 60 s 4 % are not enough for more than a step, and trying took five; 34 of 96 % of the 54
    that are left are 19, of which trying takes five; the rest is 35."""
    began = clock.now
    train(SMALL, tmp_path / "model", minutes=1.0, device="cpu", progress=False)
    log = recorded(tmp_path / "model")
    assert tuple(log["steps"].items()) == tuple(zip(STAGES, (1, 14, 30), strict=True))
    assert {name: len(losses) for name, losses in log["losses"].items()} == log["steps"]
    assert log["seconds"] == log["steps"] and log["minutes"] == 1.0 and log["finished"]
    assert clock.now - began == 60


def test_time_before_an_interruption_is_planned_with_and_the_pause_is_not(
    clock, tmp_path, monkeypatch
):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs.Run, "train_denoiser", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(SMALL, tmp_path / "model", minutes=1.0, device="cpu", progress=False)
    clock.now += 10_000
    train(SMALL, tmp_path / "model", minutes=1.0, device="cpu", progress=False, resume=True)
    # 15 s were spent on steps; of the 45 that are left trying takes five
    assert recorded(tmp_path / "model")["steps"]["denoiser"] == 40


@pytest.mark.parametrize(
    ("stage", "gone", "expected"),
    [
        ("perceptual_net", 0, 0.04 * 240),
        ("perceptual_net", 100, 0.04 * 140),
        ("autoencoder", 20, 220 * 0.34 / (0.34 + 0.62)),
        ("denoiser", 90, 150),
        ("denoiser", 300, -60),  # too late: `steps_within` says one step
    ],
)
def test_a_stage_gets_its_share_of_the_time_that_is_left(clock, tmp_path, stage, gone, expected):
    run = runs.Run(PRESETS["mnist"], tmp_path, None, {"minutes": 4.0})
    run.started = clock.now - gone
    assert run.seconds_for(stage) == pytest.approx(expected)


def test_processes_plan_with_the_share_of_a_batch_that_each_sees(clock, tmp_path):
    """All of it in the first stage, which every process trains whole."""
    accelerator = SimpleNamespace(is_main_process=False, num_processes=4, device="cpu")
    run = runs.Run(TINY, tmp_path, accelerator, {"minutes": 1.0, "steps": {}})
    for stage in STAGES:
        planner = SimpleNamespace(name=stage, steps_within=lambda seconds, device, sharing: sharing)
        assert run.steps_for(planner) == (1 if stage == "perceptual_net" else 4)


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
