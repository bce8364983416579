"""minildm.diffusion.parameterization: four names of one quantity, on both kinds of path."""

import math

import pytest
import torch

from minildm.diffusion import (
    PARAMETERIZATIONS,
    GaussianDenoiser,
    straight,
    to_epsilon,
    to_x0,
    training_target,
    variance_preserving,
)
from minildm.schedulers import SAMPLERS, Scheduler

PATHS = {name: variance_preserving for name in PARAMETERIZATIONS} | {"flow_prediction": straight}


def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, 3, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@pytest.mark.parametrize("sigma", [0.03, 0.5, 0.97])
def test_what_a_network_is_trained_to_say_leads_back_to_both(name, sigma):
    x0, noise = pair()
    alpha, sigma = PATHS[name](torch.tensor(sigma, dtype=torch.float64))
    xt = alpha * x0 + sigma * noise
    said = training_target(name, x0, noise, alpha, sigma)
    torch.testing.assert_close(to_x0(name, said, xt, alpha, sigma), x0)
    torch.testing.assert_close(to_epsilon(name, said, xt, alpha, sigma), noise)


def test_the_targets_are_those_of_the_papers():
    x0, noise = pair()
    alpha, sigma = torch.tensor(0.8), torch.tensor(0.6)
    expected = {
        "epsilon": noise,
        "sample": x0,
        "v_prediction": 0.8 * noise - 0.6 * x0,  # Salimans & Ho 2022
        "flow_prediction": noise - x0,  # Lipman et al. 2023
    }
    assert list(expected) == list(PARAMETERIZATIONS)
    for name, target in expected.items():
        got = training_target(name, x0, noise, alpha, sigma)
        torch.testing.assert_close(got, target, rtol=1e-6, atol=1e-6)


def test_a_path_preserves_the_variance_or_is_straight():
    sigma = torch.tensor([0.0, 0.3, 1.0, 157.0], dtype=torch.float64)
    alpha, small = variance_preserving(sigma)
    torch.testing.assert_close(alpha**2 + small**2, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(small / alpha, sigma)
    alpha, same = straight(sigma)
    assert same is sigma and (alpha + sigma == 1).all()


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"lcm"}))
def test_the_ideal_network_answers_as_every_scheduler_and_prediction_type_asks(name):
    """x0 read from its answer is the posterior's mean, at whole timesteps and between them."""
    bell = GaussianDenoiser(0.3, 0.25)
    for kind in SAMPLERS[name].prediction_types:
        config = {"prediction_type": kind, "use_flow_sigmas": kind == "flow_prediction"}
        scheduler = SAMPLERS[name].from_config(config)
        scheduler.set_timesteps(6)
        x0, noise = pair()
        for t in scheduler.timesteps[:2]:
            xt = scheduler.add_noise_at(x0, noise, t)
            shown = scheduler.scale_model_input(xt, t)
            said = bell.as_model(scheduler)(shown, t)
            alpha, sigma = scheduler.alpha_sigma(t, shown)
            gain = alpha * 0.25 / (alpha**2 * 0.25 + sigma**2)
            expected = 0.3 + gain * (shown - alpha * 0.3)
            got = scheduler.predict_x0(said, t, xt)
            # tables are float32, and epsilon says little of x0 where there is only noise; some
            # timesteps are cut off to whole numbers, as in diffusers
            atol = 2e-2 if kind == "epsilon" else 2e-3
            torch.testing.assert_close(got, expected, rtol=0, atol=atol)


def test_a_flow_is_trained_to_say_the_velocity_of_the_straight_line_whichever_its_sampler():
    x0, noise = pair()
    timesteps = torch.tensor([10, 300, 500, 700, 990])
    for scheduler in (
        SAMPLERS["flow_euler"](),
        SAMPLERS["dpmpp_2m"](prediction_type="flow_prediction", use_flow_sigmas=True),
    ):
        torch.testing.assert_close(scheduler.training_target(x0, noise, timesteps), noise - x0)
        torch.testing.assert_close(scheduler.get_velocity(x0, noise, timesteps), noise - x0)


def test_every_prediction_type_is_in_the_table():
    for class_ in SAMPLERS.values():
        assert issubclass(class_, Scheduler) and set(class_.prediction_types) <= set(PATHS)
        assert class_().prediction_type in class_.prediction_types
    assert not math.isnan(float(SAMPLERS["flow_euler"]().sigma_min))


@pytest.mark.parametrize("ask", [to_x0, to_epsilon, training_target])
def test_an_unknown_prediction_type_is_said_with_those_there_are(ask):
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="expected a prediction_type of epsilon, .*got 'magic'"):
        ask("magic", x, x, torch.tensor(0.6), torch.tensor(0.8))
