"""The schedule designer: its JavaScript is `minildm.diffusion` to the last digits; what travels,
what it refuses."""

import numpy as np
import pytest
import torch
from javascript import JavaScript

from minildm.diffusion import schedules
from minildm.schedulers import DDPMScheduler
from minildm.widgets import schedule_designer

IMAGE = torch.linspace(-1, 1, 3 * 4 * 5).reshape(1, 3, 4, 5)
ENDS = [(1e-4, 0.02), (0.00085, 0.012), (1e-5, 0.5), (0.01, 0.01)]


@pytest.fixture(scope="module")
def page():
    """The functions of schedules.js; BETA_SCHEDULES called by name."""
    page = JavaScript("schedules.js")
    page.engine.eval("function makeBetas(name, ...rest) { return BETA_SCHEDULES[name](...rest); }")
    return page


@pytest.fixture
def double():
    """Python computes in float64, as JavaScript does."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_the_page_has_the_schedules_that_python_has(page):
    assert (
        page("(() => Object.keys(BETA_SCHEDULES))")
        == list(schedules.BETA_SCHEDULES)
        == schedule_designer(IMAGE).names
    )


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("steps", [1, 10, 1000])
@pytest.mark.parametrize("name", schedules.BETA_SCHEDULES)
def test_the_page_computes_what_python_computes(page, double, name, steps, ends):
    betas = schedules.make_betas(name, steps, *ends)
    alpha_prod_t = schedules.alphas_cumprod(betas)
    theirs = page("makeBetas", name, steps, *ends)
    np.testing.assert_allclose(theirs, betas, rtol=1e-9)
    np.testing.assert_allclose(page("alphasCumprod", theirs), alpha_prod_t, rtol=1e-9)
    np.testing.assert_allclose(
        page("logSnr", alpha_prod_t.tolist()),
        schedules.log_snr(alpha_prod_t),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", schedules.BETA_SCHEDULES)
def test_in_the_chapters_float32_the_curve_is_the_same_to_1e_6(page, name):
    expected = schedules.alphas_cumprod(schedules.make_betas(name))
    np.testing.assert_allclose(
        page("alphasCumprod", page("makeBetas", name, 1000, 1e-4, 0.02)), expected, atol=1e-6
    )


@pytest.mark.parametrize("name", schedules.BETA_SCHEDULES)
def test_rescaled_too(page, double, name):
    betas = schedules.make_betas(name)
    expected = schedules.alphas_cumprod(schedules.rescale_zero_terminal_snr(betas))
    rescaled = page("rescaleZeroTerminalSnr", schedules.alphas_cumprod(betas).tolist())
    np.testing.assert_allclose(rescaled, expected, atol=1e-12)
    assert rescaled[-1] == 0


def test_the_page_noises_as_the_scheduler_does(page):
    scheduler, t = DDPMScheduler(), torch.tensor([300])
    noise = torch.randn(IMAGE.shape, generator=torch.Generator().manual_seed(0))
    alpha_prod_t = float(scheduler.alphas_cumprod[300])
    xt = page("addNoise", IMAGE.flatten().tolist(), noise.flatten().tolist(), alpha_prod_t)
    np.testing.assert_allclose(xt, scheduler.add_noise(IMAGE, noise, t).flatten(), atol=1e-6)


def test_image_and_noise_travel_as_float32():
    noise = torch.randn(IMAGE.shape)
    widget = schedule_designer(IMAGE, noise)
    assert widget.shape == [3, 4, 5]
    for sent, kept in ((widget.image, IMAGE), (widget.noise, noise)):
        np.testing.assert_array_equal(np.frombuffer(sent, "<f4").reshape(IMAGE.shape), kept)


def test_without_noise_it_is_that_of_seed_0():
    noise = torch.randn(IMAGE.shape, generator=torch.Generator().manual_seed(0))
    assert schedule_designer(IMAGE).noise == schedule_designer(IMAGE, noise).noise


def test_python_shapes_the_schedule_within_what_make_betas_allows():
    widget = schedule_designer(IMAGE, num_train_timesteps=10)
    widget.beta_schedule = "scaled_linear"
    widget.beta_start, widget.beta_end = 0.00085, 0.012
    widget.t = 9
    for trait, value, message in [
        ("beta_schedule", "flat", "got 'flat'"),
        ("beta_start", 0.0, "expected 0 < beta_start <= beta_end < 1, got 0.0 and 0.012"),
        ("beta_start", 0.5, "got 0.5 and 0.012"),
        ("beta_end", 1.0, "got 0.00085 and 1.0"),
        ("t", 10, "expected t in 0 … 9, got 10"),
    ]:
        with pytest.raises(ValueError, match=message):
            setattr(widget, trait, value)
    with widget.hold_trait_notifications():  # as a message of the page does: both ends at once
        widget.beta_start, widget.beta_end = 0.5, 0.6
    assert (widget.beta_start, widget.beta_end) == (0.5, 0.6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((IMAGE[0],), r"expected an image \(1, 1 or 3, h, w\), got \(3, 4, 5\)"),
        ((IMAGE.repeat(2, 1, 1, 1),), r"expected an image .*, got \(2, 3, 4, 5\)"),
        ((IMAGE[:, :2],), r"expected an image .*, got \(1, 2, 4, 5\)"),
        ((2 * IMAGE,), r"expected an image in \[-1, 1\], got -2 to 2"),
        ((IMAGE / 0,), r"expected an image in \[-1, 1\], got"),
        ((IMAGE, IMAGE[:, :1]), r"finite noise \(1, 3, 4, 5\), got \(1, 1, 4, 5\)"),
        ((IMAGE, None, 0), "num_train_timesteps from 1 to 1000000, got 0"),
    ],
)
def test_a_wrong_picture_is_an_error_that_says_what_came(arguments, message):
    with pytest.raises(ValueError, match=message):
        schedule_designer(*arguments)


def test_with_fewer_timesteps_t_is_the_last_of_them():
    widget = schedule_designer(IMAGE)
    widget.t = 900
    widget.num_train_timesteps = 100
    assert widget.t == 99
    with pytest.raises(ValueError, match="expected t in 0 … 99, got 900"):
        widget.t = 900


@pytest.mark.parametrize("count", [0, -1, 10**6 + 1, 10**9, 10**30])
def test_there_are_as_many_timesteps_as_a_table_can_hold(count):
    widget = schedule_designer(IMAGE)
    for ask in (
        lambda: setattr(widget, "num_train_timesteps", count),
        lambda: schedule_designer(IMAGE, num_train_timesteps=count),
    ):
        with pytest.raises(ValueError, match=f"num_train_timesteps from 1 to 1000000, got {count}"):
            ask()
    assert widget.num_train_timesteps == 1000
