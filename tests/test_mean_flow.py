"""Average velocities against what is known in closed form, for a normal distribution along the
straight path, and against another way to differentiate."""

import math

import pytest
import torch
from tiny import tiny_pipeline
from torch import nn

from minildm.diffusion import sample
from minildm.models import UNet2DConditionModel
from minildm.schedulers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from minildm.testing import randomise_
from minildm.variations import (
    MeanFlowLoss,
    MeanFlowUNet,
    OwnGuidance,
    StraightVelocity,
    mean_flow_batches,
    mean_flow_target,
    told_the_interval,
    two_stretches_target,
)

MEAN, DEVIATION = 0.3, 0.5


def deviation_at(t):
    return ((1 - t) ** 2 * DEVIATION**2 + t**2).sqrt()


def velocity_at(z, t):
    """Of x₀ ~ N(0.3, 0.5²): ε - x₀, as it is on average at z."""
    t = t[:, None]
    away = (z - (1 - t) * MEAN) / deviation_at(t) ** 2
    return t * away - (MEAN + (1 - t) * DEVIATION**2 * away)


def average_velocity_at(z, t, interval):
    """(z_t - z_r) / (t - r): what is so many deviations from the mean stays so."""
    t, interval = t[:, None], interval[:, None]
    r = t - interval
    z_r = (1 - r) * MEAN + deviation_at(r) / deviation_at(t) * (z - (1 - t) * MEAN)
    return (z - z_r) / interval


@pytest.fixture
def points():
    """z (64, 3), t and interval (64,), in float64."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    t, share = torch.rand(2, 64, generator=generator, dtype=torch.float64).clamp(0.1, 0.95)
    return z, t, share * t


class Network(nn.Module):
    """z (B, 3), t, interval (B,) -> (B, 3)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3)).double()

    def forward(self, z, t, interval):
        return self.layers(torch.cat([z, t[:, None], interval[:, None]], dim=1))


def test_the_exact_average_velocity_is_its_own_target(points):
    z, t, interval = points
    exact = average_velocity_at(z, t, interval)
    got = mean_flow_target(average_velocity_at, z, velocity_at(z, t), t, interval)
    torch.testing.assert_close(got, exact, rtol=1e-9, atol=1e-9)


def test_a_short_stretch_and_the_rest_come_as_near_as_the_short_one_is_straight(points):
    z, t, interval = points
    exact = average_velocity_at(z, t, interval)

    def error(short):
        got = two_stretches_target(
            average_velocity_at, z, velocity_at(z, t), t, interval, short=short
        )
        return float((got - exact).abs().max())

    errors = [error(0.008), error(0.004), error(0.002)]
    assert errors[0] < 0.05
    # a step of Euler's method is off by what goes with the square of its length
    assert all(3.8 < a / b < 4.2 for a, b in zip(errors[:-1], errors[1:], strict=True)), errors


def test_the_derivative_is_that_of_two_backward_passes(points):
    """du/dt by reverse mode alone: the gradient, with respect to any w, of w times the gradient."""
    z, t, interval = points
    network, v = Network(), velocity_at(z, t)
    inputs = [each.clone().requires_grad_() for each in points]
    w = torch.zeros_like(z, requires_grad=True)
    gradients = torch.autograd.grad(network(*inputs), inputs, w, create_graph=True)
    ones = torch.ones_like(t)
    along = sum((g * d).sum() for g, d in zip(gradients, (v, ones, ones), strict=True))
    (du_dt,) = torch.autograd.grad(along, w)
    got = mean_flow_target(network, z, v, t, interval)
    torch.testing.assert_close(got, v - interval[:, None] * du_dt, rtol=1e-9, atol=1e-12)
    assert not got.requires_grad


def test_a_unet_is_differentiated_forwards_through_attention_and_norms():
    unet = small_unet().double()
    network = MeanFlowUNet(unet)
    generator = torch.Generator().manual_seed(1)
    z, v = torch.randn(2, 2, 4, 8, 8, generator=generator, dtype=torch.float64)
    context = torch.randn(2, 3, 12, generator=generator, dtype=torch.float64)
    t, interval = torch.tensor([[0.9, 0.5], [0.4, 0.2]], dtype=torch.float64)
    got = mean_flow_target(network, z, v, t, interval, context)
    h = 2e-5  # the angles of the times, 1000·t, are in float32
    with torch.no_grad():
        ahead, behind = (network(z + s * v, t + s, interval + s, context) for s in (h, -h))
    du_dt = (ahead - behind) / (2 * h)
    expected = v - interval[:, None, None, None] * du_dt
    assert (got - expected).abs().max() < 0.02 * expected.abs().max()


@pytest.mark.parametrize("target", [mean_flow_target, two_stretches_target])
def test_without_an_interval_it_is_plain_flow_matching(points, target):
    z, t, _ = points
    nothing, v = torch.zeros_like(t), velocity_at(z, t)
    torch.testing.assert_close(target(Network(), z, v, t, nothing), v)
    network = Network()
    x0, noise = z, z.flip(0)
    loss = MeanFlowLoss(network, target=target, power=0.0)
    zt = (1 - t[:, None]) * x0 + t[:, None] * noise
    expected = nn.functional.mse_loss(network(zt, t, nothing), noise - x0)
    torch.testing.assert_close(loss(x0, noise, t, nothing), expected)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_any_number_of_steps_draws_the_distribution(steps):
    scheduler = FlowMatchEulerDiscreteScheduler()
    noise = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)).double()

    def predict(x, t):
        i = scheduler.index_at(t)
        interval = (scheduler.sigmas[i] - scheduler.sigmas[i + 1]).double()
        return average_velocity_at(
            x, scheduler.sigmas[i].double().expand(len(x)), interval.expand(len(x))
        )

    drawn = sample(predict, scheduler, noise, steps)
    torch.testing.assert_close(drawn, MEAN + DEVIATION * noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon"])
def test_the_velocity_of_a_network_of_the_curved_path(points, kind):
    z, t, _ = points
    scheduler = DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=kind)

    class Teacher(nn.Module):
        def forward(self, x, timesteps):
            """Exact for N(0.3, 0.5²) at timesteps between the whole ones, too."""
            table = scheduler.alphas_cumprod.double()
            sigma = torch.exp(interpolate(timesteps, (((1 - table) / table).sqrt().log())))[:, None]
            alpha = 1 / (1 + sigma**2).sqrt()
            sigma = alpha * sigma
            away = (x - alpha * MEAN) / (alpha**2 * DEVIATION**2 + sigma**2)
            x0, noise = MEAN + alpha * DEVIATION**2 * away, sigma * away
            return noise if kind == "epsilon" else alpha * noise - sigma * x0

    got = StraightVelocity(Teacher(), scheduler)(z, t, torch.full_like(z, 99.0))
    torch.testing.assert_close(got, velocity_at(z, t), rtol=1e-5, atol=1e-5)


def test_a_network_guides_itself_by_the_papers_formula(points):
    z, t, _ = points
    nothing = torch.tensor([[1.0, 2.0]], dtype=torch.float64)

    class Told(nn.Module):
        def forward(self, z, t, interval, context):
            assert (interval == 0).all()
            return z + t[:, None] * context.sum((1, 2))[:, None]

    context = torch.randn(64, 1, 2, dtype=torch.float64)
    pair = z.flip(0)
    got = OwnGuidance(Told(), 2.5, nothing)(z, t, pair, context)
    torch.testing.assert_close(got, 2.5 * pair - 1.5 * (z + 3 * t[:, None]))


def interpolate(places, table):
    low = places.floor().long().clamp(0, len(table) - 2)
    return table[low] + (places - low) * (table[low + 1] - table[low])


def small_unet():
    config = tiny_pipeline().unet.config
    unet = UNet2DConditionModel.from_config(config, time_cond_proj_dim=6)
    return randomise_(unet, torch.Generator().manual_seed(0)).eval()


def test_a_network_that_is_told_the_interval_begins_as_it_was():
    plain = UNet2DConditionModel.from_config(small_unet().config, time_cond_proj_dim=None)
    randomise_(plain, torch.Generator().manual_seed(0)).eval()
    told = MeanFlowUNet(told_the_interval(plain, dim=6).eval())
    z, context = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 12)
    t, interval = torch.tensor([[0.9, 0.5], [0.4, 0.2]])
    torch.testing.assert_close(told(z, t, interval, context), plain(z, 1000 * t, context))
    with torch.no_grad():
        nn.init.normal_(told.unet.time_embedding.cond_proj.weight)
    assert (told(z, t, interval, context) - told(z, t, t, context)).abs().max() > 1e-3
    with pytest.raises(ValueError, match="expected a U-Net with time_cond_proj_dim"):
        MeanFlowUNet(plain)


def test_batches_hold_times_in_order_and_the_shares_asked_for():
    x0 = torch.zeros(4000, 3)

    def batch(step):
        return x0, x0, torch.zeros(len(x0), dtype=torch.int64)

    _, _, t, interval = mean_flow_batches(batch, seed=0, same=0.25, whole=0.2)(0)
    assert (interval >= 0).all() and (interval <= t).all() and (t <= 1).all()
    for got, expected in ((interval == 0, 0.25), (interval == 1, 0.2)):
        assert abs(float(got.float().mean()) - expected) < 3 * math.sqrt(expected / 4000)


def test_an_interval_that_reaches_below_0_is_refused(points):
    z, t, _ = points
    with pytest.raises(ValueError, match="expected intervals of at most t"):
        MeanFlowLoss(Network())(z, z, t, t + 0.1)
