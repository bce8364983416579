import math

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_ddpm import betas_for_alpha_bar
from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr as theirs

from minildm.diffusion import (
    BETA_SCHEDULES,
    alphas_cumprod,
    cosine_betas,
    log_snr,
    make_betas,
    rescale_zero_terminal_snr,
    shift_resolution,
    snr,
)


@pytest.mark.parametrize("name", BETA_SCHEDULES)
@pytest.mark.parametrize("steps", [10, 1000])
def test_betas_are_variances_and_the_picture_only_fades(name, steps):
    betas = make_betas(name, steps)
    assert betas.shape == (steps,) and (betas > 0).all() and (betas < 1).all()
    assert (alphas_cumprod(betas).diff() < 0).all()


@pytest.mark.parametrize("name", BETA_SCHEDULES)
def test_what_nobody_chose_is_as_in_diffusers(name):
    """By the schedule's name and by its function."""
    expected = DDPMScheduler(beta_schedule=name).betas
    torch.testing.assert_close(make_betas(name), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(BETA_SCHEDULES[name](), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", BETA_SCHEDULES)
def test_a_schedule_may_be_flat_and_may_have_one_step(name):
    expected = DDPMScheduler(7, 0.3, 0.3, name).betas
    torch.testing.assert_close(make_betas(name, 7, 0.3, 0.3), expected)
    assert make_betas(name, 1).shape == (1,)


def test_cosine_is_that_of_the_paper():
    betas = cosine_betas(1000)
    torch.testing.assert_close(betas, betas_for_alpha_bar(1000), rtol=0, atol=0)
    t = torch.arange(1, 900, dtype=torch.float64)
    f = (
        torch.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
        / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    )
    torch.testing.assert_close(alphas_cumprod(betas.double())[:899], f, rtol=1e-4, atol=1e-6)


def test_log_snr_is_the_logarithm_of_snr():
    alpha_prod_t = alphas_cumprod(make_betas("linear").double())
    torch.testing.assert_close(log_snr(alpha_prod_t), snr(alpha_prod_t).log())


@pytest.mark.parametrize("name", BETA_SCHEDULES)
def test_rescaled_nothing_is_left_at_the_end_and_the_beginning_stays(name):
    betas = make_betas(name)
    rescaled = rescale_zero_terminal_snr(betas)
    torch.testing.assert_close(rescaled, theirs(betas))
    before, after = alphas_cumprod(betas), alphas_cumprod(rescaled)
    assert after[-1] == 0
    torch.testing.assert_close(after[0], before[0])


def test_twice_as_wide_lowers_log_snr_by_the_logarithm_of_four():
    alpha_prod_t = alphas_cumprod(make_betas("linear").double())
    torch.testing.assert_close(
        log_snr(shift_resolution(alpha_prod_t, 64, 32)), log_snr(alpha_prod_t) - math.log(4)
    )


def test_a_picture_may_be_one_pixel_wide_and_its_own_size_changes_nothing():
    alpha_prod_t = alphas_cumprod(make_betas("linear").double())
    torch.testing.assert_close(shift_resolution(alpha_prod_t, 1, 1), alpha_prod_t)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: make_betas("flat"), "expected a beta_schedule of linear, .*, got 'flat'"),
        (lambda: make_betas("linear", 0), "expected num_train_timesteps from 1 to 1000000, got 0"),
        (lambda: make_betas("linear", 10**9), "from 1 to 1000000, got 1000000000"),
        (lambda: make_betas("linear", 100.5), "from 1 to 1000000, got 100.5"),
        (
            lambda: make_betas("linear", 10, 0.3, 0.2),
            "expected 0 < beta_start <= beta_end < 1, got 0.3 and 0.2",
        ),
        (lambda: make_betas("linear", 10, 0.0, 0.2), "got 0.0 and 0.2"),
        (lambda: make_betas("linear", 10, 0.2, 1.0), "got 0.2 and 1.0"),
        (
            lambda: shift_resolution(torch.ones(3), 0, 32),
            "expected sizes of 1 or more, got 0 and 32",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
