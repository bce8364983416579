"""Every sampler against what is known exactly: data from one Gaussian, whose denoiser, marginals
and ODE are known."""

import math

import pytest
import torch

from minildm.diffusion import GaussianDenoiser
from minildm.schedulers import SAMPLERS, FlowMatchEulerDiscreteScheduler, SigmaScheduler

MEAN, VARIANCE = 0.3, 0.25
BELL = GaussianDenoiser(torch.tensor(MEAN).double(), torch.tensor(VARIANCE).double())
STOCHASTIC = {"ddpm": {}, "ddim": {"eta": 1.0}, "euler_a": {}}
NETWORK_SEES_UNDIMMED = (
    "euler",
    "euler_a",
    "heun",
)  # the schedulers whose sample is x0 + sigma * noise

# How each is set up so that nothing but its order shows: the timesteps evenly spaced from end to
# end, stopping at timestep 0 where the last step to sigma = 0 is of first order whatever the
# method.
CONFIG = {
    "ddpm": {"timestep_spacing": "trailing", "clip_sample": False},
    "ddim": {"timestep_spacing": "trailing", "clip_sample": False},
    "pndm": {"timestep_spacing": "trailing", "prediction_type": "epsilon"},
    "euler": {"timestep_spacing": "linspace"},
    "euler_a": {"timestep_spacing": "trailing"},
    "heun": {"timestep_spacing": "linspace"},
    "dpmpp_2m": {"timestep_spacing": "linspace", "final_sigmas_type": "sigma_min"},
    "flow_euler": {},
}
# name -> (numbers of steps, between what the order must lie); above the rounding of float32 tables
ORDERS = {
    "ddim": ((50, 100, 200), 0.9, 1.1),
    "euler": ((50, 100, 200), 0.9, 1.1),
    "flow_euler": ((50, 100, 200), 0.9, 1.1),
    "heun": ((25, 50, 100), 1.85, 2.2),
    "dpmpp_2m": ((50, 100, 200), 1.8, 2.2),
    "pndm": ((10, 20, 50), 1.8, 5.0),  # third order or so, until its last, shorter step shows
}


def scheduler_for(name, steps, **config):
    own = (
        {}
        if name == "flow_euler"
        else {"beta_start": 1e-4, "beta_end": 0.02, "prediction_type": "sample"}
    )
    scheduler = SAMPLERS[name](**{**own, **CONFIG[name], **config})
    scheduler.set_timesteps(steps)
    return scheduler


def kept_at(scheduler, i):
    """alphas_cumprod at the i-th place of the loop, in float64; -1 is the end."""
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        sigma = scheduler.sigmas[i].double()
        return (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)
    if isinstance(scheduler, SigmaScheduler):
        return 1 / (1 + scheduler.sigmas[i].double() ** 2)
    if i == -1:
        return getattr(scheduler, "final_alpha_cumprod", torch.tensor(1.0)).double()
    return scheduler.alphas_cumprod[scheduler.timesteps[i]].double()


def size_at(scheduler, i, name):
    """What a dimmed x_t, of alphas_cumprod's size, is multiplied by to be the scheduler's sample
    there."""
    if name == "flow_euler":
        sigma = scheduler.sigmas[i].double()
        return ((1 - sigma) ** 2 + sigma**2).sqrt()
    return (
        1 / kept_at(scheduler, i).sqrt()
        if name in NETWORK_SEES_UNDIMMED
        else torch.tensor(1.0).double()
    )


def sample(name, scheduler, xt, stop_before_zero=False, **options):
    """The whole loop with the exact denoiser, from a dimmed x_t to a dimmed one, and alphas_cumprod
    where it ends."""
    x = xt * size_at(scheduler, 0, name)
    for i, t in enumerate(scheduler.timesteps):
        kept, size = kept_at(scheduler, i), size_at(scheduler, i, name)
        if stop_before_zero and i == len(scheduler.timesteps) - 1:
            return x / size, kept
        x0 = BELL.predict_x0(x / size, kept)
        if name == "flow_euler":
            said = (x - x0) / scheduler.sigmas[
                i
            ].double()  # noise - x0, since x = (1 - sigma) x0 + sigma noise
        else:
            said = BELL.predict_epsilon(x, kept) if name == "pndm" else x0
        x = scheduler.step(said, t, x, **options)
    return x / size_at(scheduler, -1, name), kept_at(scheduler, -1)


def error(name, steps):
    scheduler = scheduler_for(name, steps)
    xt = torch.linspace(-2, 2, 9).double()
    got, kept = sample(name, scheduler, xt, stop_before_zero=name in NETWORK_SEES_UNDIMMED)
    return float((got - BELL.ode_solution(xt, kept_at(scheduler, 0), kept)).abs().max())


def crowd(kept, n=40_000, seed=0):
    """n draws of x_t."""
    generator = torch.Generator().manual_seed(seed)
    spread = (kept * VARIANCE + 1 - kept).sqrt()
    return kept.sqrt() * MEAN + spread * torch.randn(n, generator=generator, dtype=torch.float64)


def test_every_sampler_is_tested_here():
    assert (
        set(CONFIG) == set(SAMPLERS) - {"lcm"} == {*ORDERS, *STOCHASTIC}
    )  # lcm's network says another thing


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_a_deterministic_sampler_converges_to_the_exact_solution_with_its_order(name):
    counts, least, most = ORDERS[name]
    errors = [error(name, count) for count in counts]
    order = math.log(errors[0] / errors[-1]) / math.log(counts[-1] / counts[0])
    assert least < order < most, (order, errors)
    assert errors[-1] < 0.02


@pytest.mark.parametrize("name", sorted(STOCHASTIC))
def test_a_stochastic_sampler_ends_with_the_datas_mean_and_variance(name):
    scheduler = scheduler_for(name, 1000)
    generator = torch.Generator().manual_seed(1)
    x, _ = sample(
        name, scheduler, crowd(kept_at(scheduler, 0)), generator=generator, **STOCHASTIC[name]
    )
    standard_error = VARIANCE * (2 / len(x)) ** 0.5
    assert abs(x.mean() - MEAN) < 4 * (VARIANCE / len(x)) ** 0.5
    # a thousand steps are not infinitely many: what they lose of the variance is in the recursion
    # below
    assert abs(x.var() - chain_variance(scheduler)) < 4 * standard_error
    assert abs(chain_variance(scheduler) - VARIANCE) < 0.02 * VARIANCE


def chain_variance(scheduler):
    """The exact variance of x_0 after all steps of DDPM with this denoiser: every step is linear
    and adds noise."""
    kept = [kept_at(scheduler, i) for i in range(len(scheduler.timesteps))] + [
        torch.tensor(1.0).double()
    ]
    variance = kept[0] * VARIANCE + 1 - kept[0]
    for now, then in zip(kept, kept[1:], strict=False):
        shrink = (
            then / now * ((1 - then) / then / ((1 - now) / now)) ** 2
        )  # (sigma'/sigma)^2 of x, dimmed again
        gain = now.sqrt() * VARIANCE / (now * VARIANCE + 1 - now)  # of x0 with x_t
        slope = shrink.sqrt() + (then.sqrt() - shrink.sqrt() * now.sqrt()) * gain
        fresh = (1 - then) / (1 - now) * (1 - now / then)
        variance = slope**2 * variance + fresh
    return float(variance)


@pytest.mark.parametrize("steps", [5, 20])
def test_few_steps_of_ddpm_lose_the_variance_that_the_formula_says(steps):
    for name, options in STOCHASTIC.items():
        scheduler = scheduler_for(name, steps)
        generator = torch.Generator().manual_seed(2)
        x, _ = sample(name, scheduler, crowd(kept_at(scheduler, 0)), generator=generator, **options)
        expected = chain_variance(scheduler)
        assert expected < 0.9 * VARIANCE
        assert abs(x.var() / expected - 1) < 4 * (2 / len(x)) ** 0.5


@pytest.mark.parametrize("timestep", [0, 100, 500, 999])
def test_add_noise_posterior_and_score_are_those_of_the_bell(timestep):
    scheduler = scheduler_for("ddim", 10)
    kept = scheduler.alphas_cumprod[timestep].double()
    generator = torch.Generator().manual_seed(3)
    x0 = MEAN + VARIANCE**0.5 * torch.randn(200_000, generator=generator, dtype=torch.float64)
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    xt = scheduler.add_noise(x0, noise, torch.tensor([timestep]))

    variance = kept * VARIANCE + 1 - kept
    assert abs(xt.mean() - kept.sqrt() * MEAN) < 4 * (variance / len(xt)) ** 0.5
    assert abs(xt.var() / variance - 1) < 4 * (2 / len(xt)) ** 0.5

    # The best guess leaves an error that nothing in x_t foretells, of the posterior's variance.
    off = x0 - BELL.predict_x0(xt, kept)
    posterior = 1 / (1 / VARIANCE + kept / (1 - kept))
    assert abs(off.var() / posterior - 1) < 4 * (2 / len(xt)) ** 0.5
    assert abs((off * xt).mean()) < 4 * (posterior * (xt**2).mean() / len(xt)) ** 0.5

    # The score is the gradient of the log density.
    x = torch.linspace(-2, 2, 9).double().requires_grad_()
    torch.distributions.Normal(kept.sqrt() * MEAN, variance.sqrt()).log_prob(x).sum().backward()
    torch.testing.assert_close(BELL.score(x.detach(), kept), x.grad)
    torch.testing.assert_close(
        BELL.predict_epsilon(x.detach(), kept), -((1 - kept).sqrt()) * x.grad
    )


def test_the_exact_solution_carries_one_marginal_to_the_other():
    first, last = torch.tensor([0.01, 0.9]).double()
    x = BELL.ode_solution(crowd(first), first, last)
    variance = last * VARIANCE + 1 - last
    assert abs(x.mean() - last.sqrt() * MEAN) < 4 * (variance / len(x)) ** 0.5
    assert abs(x.var() / variance - 1) < 4 * (2 / len(x)) ** 0.5


def test_the_exact_solution_solves_the_probability_flow_ode():
    sigma = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    start, kept = torch.tensor([-1.0]).double(), 1 / (1 + sigma**2)
    x = BELL.ode_solution(start, 0.05, kept) / kept.sqrt()
    (slope,) = torch.autograd.grad(x, sigma)
    x0 = BELL.predict_x0((x * kept.sqrt()).detach(), kept.detach())
    torch.testing.assert_close(slope, ((x.detach() - x0) / sigma.detach()).squeeze())
