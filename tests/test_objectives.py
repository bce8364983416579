"""minildm.training.objectives: what the denoiser's loss aims at, and what it counts."""

import pytest
import torch
from torch import nn

from minildm.schedulers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from minildm.training import DenoisingLoss, TextConditionedUNet

PREDICTIONS = ("epsilon", "sample", "v_prediction")


class Guess(nn.Module):
    """In a U-Net's place: always the same guess at x0 (B, C, h, w), said as the prediction type
    wants it."""

    def __init__(self, x0, scheduler):
        super().__init__()
        self.x0, self.scheduler = x0, scheduler

    def forward(self, sample, timestep):
        alpha, sigma = self.scheduler.alpha_sigma(timestep, sample)
        noise = (sample - alpha * self.x0) / sigma
        v = self.scheduler.get_velocity(self.x0, noise, timestep)
        return {"epsilon": noise, "sample": self.x0, "v_prediction": v}[
            self.scheduler.config.prediction_type
        ]


def loss(prediction_type, weighting):
    generator = torch.Generator().manual_seed(0)
    latents, guess, noise = torch.randn(3, 5, 2, 4, 4, generator=generator, dtype=torch.float64)
    scheduler = DDPMScheduler(prediction_type=prediction_type)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    loss_of = DenoisingLoss(Guess(guess, scheduler), scheduler, weighting)
    return loss_of(latents, noise, torch.tensor([5, 250, 500, 750, 980]))


class Zero(nn.Module):
    """In a network's place: says nothing, whatever it is told."""

    def forward(self, sample, timestep, *condition):
        return torch.zeros_like(sample)


def test_the_loss_aims_at_what_the_scheduler_says_that_is_predicted():
    """Of a network that says zero it is the mean square of the target, in closed form."""
    generator = torch.Generator().manual_seed(1)
    x0, noise = torch.randn(2, 4, 1, 8, 8, generator=generator)
    x0 = 3 * x0
    t = torch.tensor([0, 300, 600, 999])
    losses = {}
    for prediction_type in PREDICTIONS:
        scheduler = DDPMScheduler(prediction_type=prediction_type)
        losses[prediction_type] = DenoisingLoss(Zero(), scheduler)(x0, noise, t, torch.zeros(4))
    alpha_prod_t = DDPMScheduler().alphas_cumprod[t].reshape(-1, 1, 1, 1)
    v = alpha_prod_t.sqrt() * noise - (1 - alpha_prod_t).sqrt() * x0
    for prediction_type, target in {"epsilon": noise, "sample": x0, "v_prediction": v}.items():
        torch.testing.assert_close(losses[prediction_type], target.square().mean())
    assert len({round(loss.item(), 2) for loss in losses.values()}) == 3
    flow = DenoisingLoss(Zero(), FlowMatchEulerDiscreteScheduler())(x0, noise, t)
    torch.testing.assert_close(flow, (noise - x0).square().mean())


def test_the_network_sees_x_t_its_timestep_and_its_condition():
    seen = []

    class Sees(Zero):
        def forward(self, sample, timestep, *condition):
            seen.extend((sample, timestep, *condition))
            return super().forward(sample, timestep)

    scheduler = DDPMScheduler()
    x0, noise = torch.randn(2, 3, 2, 4, 4)
    t, labels, more = torch.tensor([5, 500, 990]), torch.arange(3), torch.randn(3, 7)
    DenoisingLoss(Sees(), scheduler)(x0, noise, t, labels, more)
    torch.testing.assert_close(seen[0], scheduler.add_noise(x0, noise, t))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    for got, expected in zip(seen[1:], (t, labels, more), strict=True):
        assert torch.equal(got, expected)


def test_a_text_is_encoded_once_and_every_sample_gets_the_context_of_its_own():
    class Reader(nn.Module):
        def forward(self, input_ids):
            self.read = input_ids
            return input_ids.float()[..., None].expand(-1, -1, 2)

    class Echo(nn.Module):
        def forward(self, sample, timestep, encoder_hidden_states):
            return encoder_hidden_states

    reader = Reader()
    input_ids = torch.tensor([[3, 4], [1, 2], [3, 4], [3, 4]])
    context = TextConditionedUNet(Echo(), reader)(torch.zeros(4, 1, 2, 2), 5, input_ids)
    assert torch.equal(context[..., 0], input_ids.float())
    assert len(reader.read) == 2


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
