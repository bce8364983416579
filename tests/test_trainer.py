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
import scipy.stats
import torch
from safetensors.torch import load_file
from torch import nn

from minildm.training import (
    EMA,
    PRESETS,
    STATE_FILE,
    Stage,
    batch_indices,
    learning_rate_at,
    save_state,
    spread_timesteps,
    step_generator,
    train,
)
from minildm.training import trainer as training

STEPS = (6, 20, 40)


class Regression(nn.Module):
    """A task as small as one can be: the mean squared error of a linear layer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x, y):
        return (self.linear(x) - y).square().mean()


def toy_stage(ema: float = 0.1, name: str = "toy", batch=None) -> Stage:
    torch.manual_seed(0)

    def draw(step):
        x = torch.randn(8, 3, generator=step_generator(0, name, step))
        return x, x[:, :2] * 2

    return Stage(name, Regression(), batch or draw, learning_rate=0.1, ema=ema)


def test_each_step_has_randomness_of_its_own_which_is_the_same_again():
    def draw(*key):
        return torch.randn(4, generator=step_generator(*key))

    torch.testing.assert_close(draw(0, "a", 1), draw(0, "a", 1), rtol=0, atol=0)
    others = [draw(1, "a", 1), draw(0, "b", 1), draw(0, "a", 2), draw(2**32, "a", 1)]
    assert all(not torch.equal(draw(0, "a", 1), other) for other in others)


def test_every_epoch_sees_every_example_once_each_in_another_order():
    seen = torch.cat([batch_indices(10, 4, 0, "a", step) for step in range(5)])
    first, second = seen[:10], seen[10:]
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(10))
    assert first.tolist() != second.tolist()


def test_a_batch_larger_than_the_data_goes_round_again():
    assert batch_indices(3, 8, 0, "a", 0).bincount().tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_spread_timesteps_come_once_from_every_equal_part_and_all_of_them_come():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([spread_timesteps(8, generator, 1000) for _ in range(2000)])
    assert torch.equal((drawn // 125).sort(1).values, torch.arange(8).expand(2000, 8))
    assert drawn.min() == 0 and drawn.max() == 999
    counts = drawn.flatten().bincount(minlength=1000)
    assert scipy.stats.chisquare(counts.view(100, 10).sum(1).numpy()).pvalue > 0.01


def test_learning_rate_climbs_to_its_peak_and_falls_to_zero():
    rates = [learning_rate_at(step, 100, 0.5, warmup=0.1) for step in range(100)]
    assert rates.index(max(rates)) in (9, 10) and max(rates) == 0.5
    assert all(a < b for a, b in zip(rates[:9], rates[1:10], strict=True))
    assert all(a > b for a, b in zip(rates[10:-1], rates[11:], strict=True))
    assert rates[-1] < 1e-3
    assert rates[55] == pytest.approx(0.25)  # half-way down a half cosine


def test_ema_is_the_weighted_sum_it_says():
    weight = nn.Parameter(torch.tensor([0.0]))
    ema = EMA([weight], horizon=4)
    expected = 0.0
    for step, value in enumerate([1.0, 5.0, -2.0, 3.0, 3.0, 3.0, 7.0]):
        weight.data.fill_(value)
        ema.update(step)
        decay = min(0.75, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    ema.copy_to_parameters()
    assert weight.item() == pytest.approx(expected, rel=1e-6)


def test_a_stage_learns():
    stage = toy_stage()
    losses = stage.run(200, progress=False)
    assert losses[-1] < 1e-3 * losses[0]
    torch.testing.assert_close(stage.task.linear.weight, torch.eye(3)[:2] * 2, atol=0.02, rtol=0)


@pytest.mark.parametrize("ema", [0.0, 0.1])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(tmp_path, ema):
    whole = toy_stage(ema)
    expected = whole.run(30, progress=False)

    def interrupting(step):
        if step == 17:
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C would, in the middle of a step
        return toy_stage(ema).batch(step)

    with pytest.raises(KeyboardInterrupt):
        toy_stage(ema, batch=interrupting).run(30, tmp_path, progress=False)
    resumed = toy_stage(ema)
    assert resumed.run(30, tmp_path, progress=False) == expected
    for name, value in whole.task.state_dict().items():
        assert torch.equal(value, resumed.task.state_dict()[name])


def test_the_time_before_an_interruption_counts_and_the_pause_does_not(tmp_path):
    stage = toy_stage(ema=0.0)
    save_state(
        tmp_path / STATE_FILE,
        "toy",
        stage.task,
        stage.optimiser(stage.task),
        None,
        [1.0] * 29,
        1000.0,
    )
    stage.run(30, tmp_path, progress=False)
    assert 1000 < stage.seconds < 1010


def test_the_state_of_another_stage_is_not_taken_for_ones_own(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SAVE_EVERY", 0)
        toy_stage().run(3, tmp_path, progress=False)
    assert len(toy_stage(name="other").run(5, tmp_path, progress=False)) == 5


def test_a_truncated_state_says_so(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SAVE_EVERY", 0)
        toy_stage().run(3, tmp_path, progress=False)
    file = tmp_path / STATE_FILE
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ValueError, match=f"{STATE_FILE}: expected a whole training state"):
        toy_stage().run(5, tmp_path, progress=False)


def test_a_full_disk_leaves_the_state_before_it_whole(tmp_path, monkeypatch):
    stage = toy_stage()
    optimiser = stage.optimiser(stage.task)
    save_state(tmp_path / STATE_FILE, "toy", stage.task, optimiser, None, [1.0], 0.5)
    before = (tmp_path / STATE_FILE).read_bytes()

    def full(tensors, file, metadata):
        file.write_bytes(b"half of i")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="could not be written.*No space left.*is whole"):
        save_state(tmp_path / STATE_FILE, "toy", stage.task, optimiser, None, [1.0, 2.0], 1.0)
    assert (tmp_path / STATE_FILE).read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [STATE_FILE]


def test_a_loss_that_is_not_finite_ends_the_training_with_advice():
    stage = toy_stage(batch=lambda step: (torch.full((8, 3), float("nan")), torch.zeros(8, 2)))
    with pytest.raises(
        ValueError, match="toy: the loss of step 0 is nan; try a lower learning rate"
    ):
        stage.run(3, progress=False)


def test_steps_within_grows_with_the_time_and_leaves_the_weights_alone():
    stage = toy_stage()
    before = stage.task.linear.weight.clone()
    few, many = (stage.steps_within(seconds, torch.device("cpu")) for seconds in (0.5, 5.0))
    assert 0 < few < many
    assert torch.equal(stage.task.linear.weight, before)


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
