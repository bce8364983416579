"""Every number of steps from 1 to T, for every sampler: the timesteps exist, and what is drawn of
one Gaussian, whose denoiser is known, is that Gaussian, or a warning says why not."""

import warnings

import diffusers
import numpy as np
import pytest
import torch

from minildm.diffusion import GaussianDenoiser
from minildm.pipelines.compatibility import sampler_like
from minildm.schedulers import (
    SAMPLERS,
    SPACED_SAMPLERS,
    SPACINGS,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from minildm.schedulers.timesteps import evenly_spaced

MEAN, DEVIATION = 0.3, 0.5
BELL = GaussianDenoiser(torch.tensor(MEAN).double(), torch.tensor(DEVIATION**2).double())
PLAIN = ("ddpm", "ddim", "pndm", "euler", "euler_a", "heun", "dpmpp_2m")  # what --sampler offers
STOCHASTIC = ("ddpm", "euler_a", "lcm")


def shipped(spacing, most):
    """As the shipped models: `mnist` has leading spacing, `scenes` trailing."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=most,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing=spacing,
        steps_offset=1,
    )


def drawn(scheduler, steps):
    """Mean and deviation of what comes of standard normal noise; what the scheduler warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    stochastic = type(scheduler) in [SAMPLERS[name] for name in STOCHASTIC]
    x = torch.tensor([-1.0, 1.0]).double()  # every other sampler is linear here
    if stochastic:
        x = torch.randn(2000, generator=generator, dtype=torch.float64)
        x = (x - x.mean()) / x.std()
    x = x * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        shown = scheduler.scale_model_input(x, t)
        said = BELL.as_model(scheduler)(shown, t)
        x = scheduler.step(said, t, x, generator=generator)
    deviation = x.std() if stochastic else (x[1] - x[0]).abs() / 2
    return x.mean().item(), deviation.item(), caught


@pytest.mark.parametrize("most", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_number_of_steps_visits_so_many_timesteps_that_exist(spacing, most):
    for count in range(1, most + 1):
        timesteps = evenly_spaced(spacing, count, most, steps_offset=1)
        assert timesteps.shape == (count,)
        assert (np.diff(timesteps.round()) <= -1).all()
        assert 0 <= timesteps[-1] <= timesteps[0] <= most - 1
        assert spacing != "trailing" or timesteps[0] == most - 1
        assert spacing != "linspace" or timesteps[-1] == 0


@pytest.mark.parametrize("spacing", SPACINGS)
def test_timesteps_are_those_of_diffusers_wherever_these_exist(spacing):
    theirs = diffusers.DDIMScheduler(timestep_spacing=spacing, steps_offset=1)
    for count in range(1, 1001):
        theirs.set_timesteps(count)
        expected = theirs.timesteps.tolist()
        if spacing == "trailing" and expected[-1] == -1:  # one too many, at 62 of these counts
            expected = expected[:-1]
        if (spacing, count) == ("leading", 1000):  # all of them, and from 1 to 1000
            expected = list(range(999, -1, -1))
        assert evenly_spaced(spacing, count, 1000, 1).round().tolist() == expected


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", [*PLAIN, *SPACED_SAMPLERS, "lcm"])
def test_every_sampler_begins_near_the_noise_at_every_number_of_steps_or_warns(name, spacing):
    scheduler = sampler_like(shipped(spacing, 200), name)
    for count in range(1, scheduler.most_steps + 1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scheduler.set_timesteps(count)
        timesteps = scheduler.timesteps
        assert 0 <= timesteps.min() <= timesteps.max() == timesteps[0] <= 199
        late = any("begin with noise" in str(warning.message) for warning in caught)
        assert late == (timesteps[0] < 0.75 * 200 * count / (count + 1))
        if late:
            assert count == 1 or (spacing == "leading" and count > 65)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", PLAIN)
def test_every_number_of_steps_draws_the_gaussian_or_warns(name, spacing):
    scheduler = sampler_like(shipped(spacing, 30), name)
    for count in range(1, 31):
        mean, deviation, caught = drawn(scheduler, count)
        assert np.isfinite(mean) and np.isfinite(deviation)
        if not caught:
            # of few steps the method's own error, and of 2,000 numbers theirs
            own = 1.6 if name == "heun" else 0.8  # its first step may err up to what is warned of
            assert abs(mean - MEAN) < 0.05 + 0.3 / count, (count, mean)
            assert abs(deviation - DEVIATION) < 0.05 + own / count, (count, deviation)


@pytest.mark.parametrize("name", SPACED_SAMPLERS)
def test_every_number_of_steps_with_spaced_sigmas_draws_something_finite(name):
    for spacing in ("leading", "trailing"):
        scheduler = sampler_like(shipped(spacing, 20), name)
        for count in range(1, 21):
            mean, deviation, caught = drawn(scheduler, count)
            assert abs(mean - MEAN) < 0.35
            assert caught or name.startswith("heun") or deviation < 1.01


def test_every_number_of_steps_of_flow_matching_draws_the_gaussian():
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=50)
    for count in range(1, 51):
        mean, deviation, caught = drawn(scheduler, count)
        assert not caught and abs(mean - MEAN) < 0.01
        assert abs(deviation - DEVIATION) < 0.01 + 1 / count


@pytest.mark.parametrize(
    "name, spacing, steps",
    [
        ("ddpm", "leading", 1000),  # was refused
        ("dpmpp_2m", "leading", 999),  # was NaN
        ("dpmpp_2m", "leading", 1000),
        ("euler", "leading", 1000),  # went to timestep 1000
        ("dpmpp_2m", "linspace", 1000),
        ("euler", "trailing", 61),  # went to timestep -1
        ("ddim", "trailing", 61),
        ("euler_a", "trailing", 3),  # was NaN
    ],
)
def test_what_failed_at_a_thousand_timesteps_draws_the_gaussian(name, spacing, steps):
    mean, deviation, caught = drawn(sampler_like(shipped(spacing, 1000), name), steps)
    assert not caught
    assert abs(mean - MEAN) < 0.04 and abs(deviation - DEVIATION) < 0.03 + 0.8 / steps


@pytest.mark.parametrize(
    "name, spacing, steps, message",
    [
        ("dpmpp_2m", "leading", 500, "got 500 of a spacing that begins at 501"),
        ("ddim", "leading", 600, "got 600 of a spacing that begins at 600"),
        ("euler", "leading", 1, "got 1 of a spacing that begins at 1"),
        ("ddim", "trailing", 600, "1 .diffusers' T // steps., got 600 that lie 1.67 apart"),
        ("ddim", "linspace", 10, "100 .diffusers' T // steps., got 10 that lie 111 apart"),
        ("pndm", "trailing", 150, "6 .diffusers' T // steps., got 150 that lie 6.66 apart"),
        ("heun", "trailing", 10, "got one from sigma 2.029e.04 to 6"),
    ],
)
def test_steps_that_draw_worse_are_warned_of_in_one_line(name, spacing, steps, message):
    scheduler = sampler_like(shipped(spacing, 1000), name)
    with pytest.warns(UserWarning, match=message) as caught:
        scheduler.set_timesteps(steps)
    assert len(caught) == 1 and "\n" not in str(caught[0].message)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_numbers_of_steps_that_people_use_are_not_warned_of(name, spacing, recwarn):
    scheduler = sampler_like(shipped(spacing, 1000), name)
    for count in (2, 3, 4, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 75, 80, 100, 200, 250):
        if name != "heun" or spacing == "leading" or count > 35:
            scheduler.set_timesteps(count)
    assert not recwarn.list
