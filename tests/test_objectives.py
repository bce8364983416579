"""minildm.training.objectives: what the denoiser's loss counts."""

import pytest
import torch
from torch import nn

from minildm.schedulers import DDPMScheduler
from minildm.training import DenoiserTask

PREDICTIONS = ("epsilon", "sample", "v_prediction")


class Guess(nn.Module):
    """In a U-Net's place: always the same guess at x0 (B, C, h, w), said as the prediction type
    wants it."""

    def __init__(self, x0, scheduler):
        super().__init__()
        self.x0, self.scheduler = x0, scheduler

    def forward(self, sample, timestep, context):
        alpha, sigma = self.scheduler.alpha_sigma(timestep, sample)
        noise = (sample - alpha * self.x0) / sigma
        v = self.scheduler.get_velocity(self.x0, noise, timestep)
        return {"epsilon": noise, "sample": self.x0, "v_prediction": v}[
            self.scheduler.config.prediction_type
        ]


class Mute(nn.Module):
    """In a text encoder's place."""

    def forward(self, input_ids):
        return torch.zeros(*input_ids.shape, 2)


def loss(prediction_type, weighting):
    generator = torch.Generator().manual_seed(0)
    latents, guess, noise = torch.randn(3, 5, 2, 4, 4, generator=generator, dtype=torch.float64)
    scheduler = DDPMScheduler(prediction_type=prediction_type)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    task = DenoiserTask(Guess(guess, scheduler), Mute(), scheduler, weighting)
    return task(
        latents, noise, torch.tensor([5, 250, 500, 750, 980]), torch.zeros(5, 3, dtype=torch.long)
    )


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_a_denoiser_without_a_weighting_counts_as_its_own_prediction_does(prediction_type):
    torch.testing.assert_close(loss(prediction_type, None), loss(prediction_type, prediction_type))


@pytest.mark.parametrize("weighting", [*PREDICTIONS, "min_snr"])
def test_with_a_weighting_one_mistake_costs_the_same_whatever_is_predicted(weighting):
    costs = torch.stack([loss(prediction_type, weighting) for prediction_type in PREDICTIONS])
    torch.testing.assert_close(costs, costs[:1].expand(3), rtol=1e-6, atol=0)


def test_the_weightings_differ():
    costs = [loss("v_prediction", weighting).item() for weighting in (*PREDICTIONS, "min_snr")]
    assert len({round(cost, 3) for cost in costs}) == 4
