"""minildm.training.trainer: it does what a loop in plain torch does, and stopped and resumed it is
as if nothing had happened."""

import copy
import math
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from minildm.training import STATE_FILE, Trainer, learning_rate_at, save_state, step_generator
from minildm.training import trainer as training


class Regression(nn.Module):
    """A loss as small as one can be: the mean squared error of a linear layer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x, y):
        return (self.linear(x) - y).square().mean()


def toy_trainer(ema: float = 0.1, name: str = "toy", batch=None) -> Trainer:
    torch.manual_seed(0)

    def draw(step):
        x = torch.randn(8, 3, generator=step_generator(0, name, step))
        return x, x[:, :2] * 2

    return Trainer(name, Regression(), batch or draw, learning_rate=0.1, ema=ema)


def test_learning_rate_climbs_to_its_peak_and_falls_to_zero():
    rates = [learning_rate_at(step, 100, 0.5, warmup=0.1) for step in range(100)]
    assert rates.index(max(rates)) in (9, 10) and max(rates) == 0.5
    assert all(a < b for a, b in zip(rates[:9], rates[1:10], strict=True))
    assert all(a > b for a, b in zip(rates[10:-1], rates[11:], strict=True))
    assert rates[-1] < 1e-3
    assert rates[55] == pytest.approx(0.25)  # half-way down a half cosine


@pytest.mark.parametrize("steps", [1, 2, 7, 19, 37, 101, 333])
def test_the_learning_rate_is_that_of_transformers_a_step_further_up_the_climb(steps):
    """It begins above zero, where transformers begins at zero and so wastes a step."""
    climb = max(1, round(0.05 * steps))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3e-3)
    theirs = get_cosine_schedule_with_warmup(optimizer, climb, steps).lr_lambdas[0]
    for step in range(steps):
        expected = 3e-3 * theirs(step if step >= climb else step + 1)
        assert learning_rate_at(step, steps, 3e-3) == pytest.approx(expected, rel=1e-12)


class Network(nn.Module):
    """One that acts otherwise in training (batch normalisation), with a part that is not
    trained."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.SiLU(), nn.Linear(5, 2))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, x, y):
        return (self.frozen(self.layers(x)) - y).square().mean()


def steep(step):
    """Batches whose gradients have norms from well below 1 to far above it."""
    x = torch.randn(8, 3, generator=step_generator(0, "steep", step), dtype=torch.float64)
    return x, (0.02 if step % 3 else 300.0) * x[:, :2]


def by_hand(network, steps, peak, betas, weight_decay, reach):
    """The training with nothing of the package in it; gives the losses and the gradients' norms,
    and leaves the average, if there is one, in the network."""
    network.train()
    parameters = [p for p in network.parameters() if p.requires_grad]
    means = [torch.zeros_like(p) for p in parameters]
    squares = [torch.zeros_like(p) for p in parameters]
    averages = [p.detach().clone() for p in parameters]
    losses, norms, climb = [], [], max(1, round(0.05 * steps))
    for step in range(steps):
        rate = peak * (step + 1) / climb
        if step >= climb:
            rate = peak * (1 + math.cos(math.pi * (step - climb) / (steps - climb))) / 2
        loss = network(*steep(step))
        gradients = torch.autograd.grad(loss, parameters)
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        decay = min(1 - 1 / max(reach * steps, 1), (1 + step) / (10 + step))
        with torch.no_grad():
            for p, g, m, v, average in zip(
                parameters, gradients, means, squares, averages, strict=True
            ):
                g = g / max(norm, 1)
                m.mul_(betas[0]).add_((1 - betas[0]) * g)
                v.mul_(betas[1]).add_((1 - betas[1]) * g * g)
                p.mul_(1 - rate * weight_decay)  # Loshchilov & Hutter 2019, algorithm 2
                direction = m / (1 - betas[0] ** (step + 1))
                p.sub_(rate * direction / ((v / (1 - betas[1] ** (step + 1))).sqrt() + 1e-8))
                average.mul_(decay).add_((1 - decay) * p)
        losses.append(loss.item())
        norms.append(norm)
    if reach:
        with torch.no_grad():
            for p, average in zip(parameters, averages, strict=True):
                p.copy_(average)
    return losses, norms


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with accelerate"])
@pytest.mark.parametrize(
    ("steps", "betas", "weight_decay", "reach"),
    [(37, (0.9, 0.99), 0.01, 0.3), (37, (0.8, 0.95), 0.3, 0.0), (7, (0.9, 0.99), 0.01, 0.05)],
    ids=["averaged", "not averaged", "few steps"],
)
def test_it_does_what_a_loop_in_plain_torch_does(steps, betas, weight_decay, reach, shared):
    """The climb and the fall of the rate, the gradient's norm cut to 1, AdamW, the average."""
    network = Network().double()
    other = copy.deepcopy(network)
    accelerator = Accelerator(cpu=True) if shared else None
    trainer = Trainer("steep", network, steep, 0.03, betas, weight_decay, ema=reach)
    losses = trainer.train(steps, accelerator=accelerator, progress=False)
    expected, norms = by_hand(other, steps, 0.03, betas, weight_decay, reach)
    assert min(norms) < 0.5 and max(norms) > 100
    assert losses == pytest.approx(expected, rel=1e-5)  # torch's clipping divides by norm + 1e-6
    for name, value in other.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-5, atol=1e-7)
    assert not any(module.training for module in network.modules())  # as it is used afterwards


def test_what_is_trained_learns():
    trainer = toy_trainer()
    losses = trainer.train(200, progress=False)
    assert losses[-1] < 1e-3 * losses[0]
    torch.testing.assert_close(trainer.loss.linear.weight, torch.eye(3)[:2] * 2, atol=0.02, rtol=0)


@pytest.mark.parametrize("ema", [0.0, 0.1])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(tmp_path, ema):
    whole = toy_trainer(ema)
    expected = whole.train(30, progress=False)

    def interrupting(step):
        if step == 17:
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C would, in the middle of a step
        return toy_trainer(ema).batch(step)

    with pytest.raises(KeyboardInterrupt):
        toy_trainer(ema, batch=interrupting).train(30, tmp_path, progress=False)
    resumed = toy_trainer(ema)
    assert resumed.train(30, tmp_path, progress=False) == expected
    for name, value in whole.loss.state_dict().items():
        assert torch.equal(value, resumed.loss.state_dict()[name])


def test_the_time_before_an_interruption_counts_and_the_pause_does_not(tmp_path):
    trainer = toy_trainer(ema=0.0)
    save_state(
        tmp_path / STATE_FILE,
        "toy",
        trainer.loss,
        trainer.create_optimizer(trainer.loss),
        None,
        [1.0] * 29,
        1000.0,
        30,
    )
    trainer.train(30, tmp_path, progress=False)
    assert 1000 < trainer.seconds < 1010


def test_the_state_of_another_stage_is_not_taken_for_ones_own(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SAVE_EVERY", 0)
        toy_trainer().train(3, tmp_path, progress=False)
    assert len(toy_trainer(name="other").train(5, tmp_path, progress=False)) == 5


def test_a_loss_that_is_not_finite_ends_the_training_with_advice():
    trainer = toy_trainer(batch=lambda step: (torch.full((8, 3), float("nan")), torch.zeros(8, 2)))
    with pytest.raises(
        ValueError, match="toy: the loss of step 0 is nan; try a lower learning rate"
    ):
        trainer.train(3, progress=False)


class Clock:
    """Time that passes only where a step is taken: `took(step)` seconds at each."""

    def __init__(self, took):
        self.took, self.now, self.taken = took, 1000.0, 0

    def read(self):
        return self.now

    def batch(self, step):
        self.now += self.took(self.taken)
        self.taken += 1
        return toy_trainer().batch(step)


@pytest.mark.parametrize(
    ("took", "seconds", "tried", "expected"),
    [
        # the first two steps, which warm up, count as time that is gone, not as what a step takes
        (lambda i: (5.0, 5.0, 0.25, 0.25, 0.5)[i], 60.0, 5, int((60 - 11) / 0.25)),
        # a single slow one among them is no rule either: the median is 0.5
        (lambda i: 4.0 if i == 3 else 0.5, 60.0, 5, int((60 - 6) / 0.5)),
        # short steps are tried for 2 % of the time
        (lambda i: 0.125, 60.0, 10, int((60 - 1.25) / 0.125)),
        # of very short ones no more than twenty
        (lambda i: 2.0**-10, 60.0, 20, 60 * 1024 - 20),
        # no time left, or less than none: a step all the same
        (lambda i: 2.0, 3.0, 5, 1),
        (lambda i: 2.0, -7.0, 5, 1),
    ],
)
def test_the_steps_planned_are_those_that_fit_by_the_clock(
    monkeypatch, took, seconds, tried, expected
):
    clock = Clock(took)
    monkeypatch.setattr(
        training, "time", SimpleNamespace(perf_counter=clock.read, monotonic=clock.read)
    )
    trainer = toy_trainer(batch=clock.batch)
    before = copy.deepcopy(trainer.loss.state_dict())
    assert trainer.steps_within(seconds, torch.device("cpu")) == expected
    assert clock.taken == tried
    for name, value in trainer.loss.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_steps_of_several_processes_are_planned_with_the_rows_that_each_will_see():
    rows = []

    class Counts(Regression):
        def forward(self, x, y):
            rows.append((len(x), x[0].tolist()))
            return super().forward(x, y)

    trainer = toy_trainer()
    trainer.loss = Counts()
    trainer.steps_within(0.1, torch.device("cpu"), processes=4)
    assert rows[0] == (2, trainer.batch(0)[0][0].tolist())
    assert {count for count, _ in rows} == {2}


def test_the_seconds_of_a_training_are_those_of_its_steps(monkeypatch):
    clock = Clock(lambda i: 0.25)
    monkeypatch.setattr(
        training, "time", SimpleNamespace(perf_counter=clock.read, monotonic=clock.read)
    )
    trainer = toy_trainer(batch=clock.batch)
    trainer.train(30, progress=False)
    assert trainer.seconds == 7.5


def test_the_state_is_written_every_so_many_seconds_of_work(monkeypatch, tmp_path):
    clock, written = Clock(lambda i: 4.0), []
    monkeypatch.setattr(
        training, "time", SimpleNamespace(perf_counter=clock.read, monotonic=clock.read)
    )
    monkeypatch.setattr(training, "save_state", lambda *state: written.append(len(state[5])))
    toy_trainer(batch=clock.batch).train(20, tmp_path, progress=False)
    assert written == [4, 8, 12, 16, 20]  # SAVE_EVERY is 15


def test_steps_within_grows_with_the_time_and_leaves_the_weights_alone():
    trainer = toy_trainer()
    before = trainer.loss.linear.weight.clone()
    few, many = (trainer.steps_within(seconds, torch.device("cpu")) for seconds in (0.5, 5.0))
    assert 0 < few < many
    assert torch.equal(trainer.loss.linear.weight, before)
