"""minildm.training.trainer: it learns, and stopped and resumed it is as if nothing had happened."""

import os
import signal

import pytest
import torch
from torch import nn

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


def test_steps_within_grows_with_the_time_and_leaves_the_weights_alone():
    trainer = toy_trainer()
    before = trainer.loss.linear.weight.clone()
    few, many = (trainer.steps_within(seconds, torch.device("cpu")) for seconds in (0.5, 5.0))
    assert 0 < few < many
    assert torch.equal(trainer.loss.linear.weight, before)
