"""Half precision costs what rounding costs once: everything between a network's answers is held
against float64, and the bound is one that diffusers, where it can do the same, meets too."""

import itertools

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minildm.data import from_pixels, to_pixels
from minildm.diffusion import (
    PARAMETERIZATIONS,
    GaussianDenoiser,
    IdealDenoiser,
    guide,
    noised,
    sample,
    to_epsilon,
    to_x0,
    training_target,
)
from minildm.models import Attention
from minildm.schedulers import SAMPLERS, Scheduler
from minildm.training import EMA
from minildm.variations import DDIMSolver, consistency_function

HALVES = (torch.bfloat16, torch.float16)
DIGITS = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
"""Half a unit in the last place, relative: the most that rounding a number costs."""
BOUND = {torch.bfloat16: 0.01, torch.float16: 0.0016}
"""Of the root mean square error of what is drawn, whose deviation is 0.5, after 20 steps."""
BELL = GaussianDenoiser(torch.tensor(0.3).double(), torch.tensor(0.25).double())
CLIPPING = ("ddpm", "ddim", "heun", "lcm")
# What diffusers' class of that name has not.
NOT_THEIRS = {("euler_a", "sample")}
# diffusers' own step rounds what is twenty thousand times larger than the picture: 5 and 2,400.
NOT_WELL = {("pndm", "trailing"), ("heun", "trailing")}


def config_for(name, kind, spacing):
    """The shipped models' schedule; for a network that predicts noise, whose rounding cosine's last
    timestep would make 20,000 times as large, that of Stable Diffusion."""
    if name == "flow_euler":
        return {}
    config = {"prediction_type": kind, "timestep_spacing": spacing, "steps_offset": 1}
    if kind == "epsilon":
        config |= {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    else:
        config["beta_schedule"] = "squaredcos_cap_v2"
    if name in CLIPPING:
        config["clip_sample"] = False
    return config | ({"skip_prk_steps": True} if name == "pndm" else {})


def cases():
    for name, class_ in SAMPLERS.items():
        kinds = ["flow_prediction"] if name == "flow_euler" else Scheduler.prediction_types
        kinds = [kind for kind in kinds if kind in class_.prediction_types]
        for kind, spacing in itertools.product(kinds, ("leading", "trailing")):
            yield pytest.param(name, kind, spacing, id=f"{name}-{kind}-{spacing}")


def exact_answer(ours, kind, shown, t):
    """What a perfect network says of what it is shown, in its type."""
    if kind == "flow_prediction":
        alpha, sigma = 1 - t.double() / 1000, t.double() / 1000
    else:
        left = np.interp(float(t), np.arange(1000), ours.alphas_cumprod.double().numpy())
        alpha, sigma = torch.tensor([left, 1 - left]).double().sqrt()
    return BELL.predict(kind, shown.double(), alpha, sigma).to(shown.dtype)


@pytest.fixture
def same_noise(monkeypatch):
    """The same random numbers in every type, which torch would draw anew for each."""
    drawn = torch.randn(64, 8, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    numbers = iter(())

    def randn(*size, dtype=None, **options):
        return next(numbers).to(dtype)

    def again():
        nonlocal numbers
        numbers = iter(drawn)
        return next(numbers)

    monkeypatch.setattr(torch, "randn", randn)
    return again


def draw(scheduler, ours, kind, steps, noise):
    """The loop as anybody writes it, for either library."""
    scheduler.set_timesteps(steps)
    theirs = not isinstance(scheduler, Scheduler)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    x = (noise * getattr(scheduler, "init_noise_sigma", 1.0)).to(noise.dtype)
    for t in scheduler.timesteps:
        shown = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        step = scheduler.step(exact_answer(ours, kind, shown, t), t, x)
        x = step.prev_sample if theirs else step
        assert x.dtype == noise.dtype
    return x


def rms(got, expected):
    return (got.double() - expected).square().mean().sqrt().item()


@pytest.mark.parametrize("name, kind, spacing", list(cases()))
def test_a_loop_in_half_precision_is_near_its_own_in_float64_and_so_is_diffusers(
    name, kind, spacing, same_noise
):
    config = config_for(name, kind, spacing)
    ours = SAMPLERS[name](**config)
    theirs = getattr(diffusers, type(ours).__name__)
    for dtype in HALVES:
        expected = draw(ours, ours, kind, 20, same_noise())
        if (name, spacing) not in NOT_WELL:
            got = draw(ours, ours, kind, 20, same_noise().to(dtype))
            assert rms(got, expected) < BOUND[dtype]
            if (name, kind) not in NOT_THEIRS:
                got = draw(theirs(**config), ours, kind, 20, same_noise().to(dtype))
                assert rms(got, expected) < BOUND[dtype]
        # the loop of this package keeps x in float32: the network's rounding is all there is
        if (name, spacing) != ("heun", "trailing"):
            noise = same_noise().to(dtype)
            got = sample(lambda x, t: exact_answer(ours, kind, x, t), ours, noise, 20)
            assert got.dtype == dtype and rms(got, expected) < BOUND[dtype]


@pytest.mark.parametrize("name, kind, spacing", list(cases()))
def test_a_step_in_half_precision_is_that_of_float64_rounded_once(name, kind, spacing, same_noise):
    ours = SAMPLERS[name](**config_for(name, kind, spacing))
    if (name, spacing) == ("pndm", "trailing"):
        pytest.skip("its first step multiplies x by 800, and float32's own rounding with it")
    for dtype in HALVES:
        # x and the answer at every timestep, as a loop in half precision meets them
        ours.set_timesteps(10)
        ours.set_begin_index()
        met, x = [], same_noise().to(dtype) * ours.init_noise_sigma
        for t in ours.timesteps:
            output = exact_answer(ours, kind, ours.scale_model_input(x, t), t)
            met.append((output, t, x))
            x = ours.step(output, t, x)
        steps = {}
        for kept in (dtype, torch.float64):
            ours.set_timesteps(10)
            ours.set_begin_index()
            same_noise()
            steps[kept] = [ours.step(said.to(kept), t, x.to(kept)) for said, t, x in met]
        for (_, _, x), got, expected in zip(met, steps[dtype], steps[torch.float64], strict=True):
            assert got.dtype == dtype
            rounded = 1.001 * DIGITS[dtype] * expected.abs()
            of_float32 = 1e-6 * (x.double().abs().max() + expected.abs().max() + 1)
            assert ((got.double() - expected).abs() <= rounded + of_float32).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", SAMPLERS)
def test_tables_are_read_in_float32_whatever_the_samples_are(name, dtype):
    scheduler = SAMPLERS[name]()
    x = torch.zeros(4, 1, 2, 2)
    timesteps = torch.tensor([1, 3, 500, 999])
    expected = scheduler.alpha_sigma(timesteps, x)
    for got, exact in zip(scheduler.alpha_sigma(timesteps, x.to(dtype)), expected, strict=True):
        torch.testing.assert_close(got, exact, rtol=0, atol=0)
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 4, 1, 32, 32, generator=generator).to(dtype)
    for method in (scheduler.add_noise, scheduler.get_velocity, scheduler.training_target):
        got = method(x0, noise, timesteps)
        exact = method(x0.double(), noise.double(), timesteps)
        assert got.dtype == dtype
        assert_rounded_once(got, exact)


def assert_rounded_once(got, exact):
    bound = 1.001 * DIGITS[got.dtype] * exact.abs() + 1e-6 * exact.abs().max()
    assert ((got.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
def test_a_parameterization_is_rounded_once(kind, dtype):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 6, 1, 32, 32, generator=generator).to(dtype)
    left = torch.tensor([0.999999, 0.9999, 0.9, 0.5, 0.01, 1e-6])[:, None, None, None]
    alpha, sigma = left.sqrt(), (1 - left).sqrt()
    exact = (alpha.double(), sigma.double())
    for function in (to_x0, to_epsilon, training_target):
        got = function(kind, a, b, alpha, sigma)
        assert got.dtype == dtype
        for row, expected in zip(got, function(kind, a.double(), b.double(), *exact), strict=True):
            # 1e-6 * 1000: what float32 leaves of a difference of nearly equal numbers
            bound = 1.001 * DIGITS[dtype] * expected.abs() + 1e-6 * expected.abs().max()
            finite = expected.abs() <= torch.finfo(dtype).max
            assert ((row.double() - expected).abs() <= bound)[finite].all()
    assert_rounded_once(noised(a, b, alpha, sigma), noised(a.double(), b.double(), *exact))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_guidance_is_rounded_once(dtype):
    """A small difference of two large predictions, times a large scale."""
    generator = torch.Generator().manual_seed(0)
    less, more = 3 + 0.1 * torch.randn(2, 4, 4, 16, 16, generator=generator)
    less, more = less.to(dtype), more.to(dtype)
    expected = less.double() + 7.5 * (more.double() - less.double())
    got = guide([less, more], [7.5])
    assert got.dtype == dtype
    assert_rounded_once(got, expected)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_ideal_denoisers_are_rounded_once(dtype):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    xt = torch.randn(20, 3, generator=generator).to(dtype)
    for denoiser in (BELL, IdealDenoiser(points, 0.1)):
        for left in (1 - 2**-13, 0.5, 2**-8):
            for method in (denoiser.predict_x0, denoiser.predict_epsilon, denoiser.score):
                got, exact = method(xt, left), method(xt.double(), left)
                assert got.dtype == dtype
                of_float32 = 1e-6 / (1 - left)
                bound = 1.001 * DIGITS[dtype] * exact.abs() + of_float32
                assert ((got.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_noise_that_float16_cannot_hold_draws_all_the_same(name):
    """Cosine's last sigma is 20,000: of 4 sigma, and there are some, 80,000 is more than 65,504."""
    scheduler = SAMPLERS[name](
        beta_schedule="squaredcos_cap_v2",
        timestep_spacing="trailing",
        prediction_type="v_prediction",
    )
    noise = torch.tensor([-4.0, 0.0, 4.0]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2)
    drawn = [
        sample(lambda x, t: exact_answer(scheduler, "v_prediction", x, t), scheduler, its, 50)
        for its in (noise.half(), noise.double())
    ]
    assert drawn[0].isfinite().all()
    torch.testing.assert_close(drawn[0].double(), drawn[1], rtol=0, atol=0.02)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_byte_of_a_picture_survives_half_precision(dtype):
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert (to_pixels(from_pixels(levels).to(dtype)) == levels).all()
    between = torch.linspace(-1.1, 1.1, 4096).reshape(1, 1, 64, 64).to(dtype)
    expected = np.round((between.double().numpy().clip(-1, 1) + 1) * 127.5)
    assert (to_pixels(between) == expected[:, 0]).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_the_average_of_half_precision_weights_is_that_of_float64(dtype):
    """A thousand steps of a weight that moves once: bfloat16 cannot tell 1 + 0.01 * 0.1 from 1."""
    weight = torch.ones(3).to(dtype)
    average = EMA([weight], horizon=100)
    expected = torch.ones(3).double()
    for step in range(1000):
        weight.copy_(torch.tensor([1.1, 0.9, 1.0]))
        average.update(step)
        decay = average.get_decay(step)
        expected = decay * expected + (1 - decay) * weight.double()
    torch.testing.assert_close(average.shadow_params[0].double(), expected, rtol=1e-5, atol=0)
    average.copy_to([weight])
    assert weight.dtype == dtype
    torch.testing.assert_close(weight.double(), expected, rtol=DIGITS[dtype], atol=1e-6)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_consistency_function_and_its_solver_are_rounded_once(dtype):
    scheduler = SAMPLERS["lcm"](prediction_type="v_prediction", timestep_scaling=0.01)
    generator = torch.Generator().manual_seed(0)
    x, said = torch.randn(2, 3, 1, 16, 16, generator=generator).to(dtype)
    timesteps, earlier = torch.tensor([999, 519, 19]), torch.tensor([979, 499, 0])

    class Says(torch.nn.Module):
        def forward(self, x, t):
            return said.to(x.dtype)

    for call in (
        lambda x: consistency_function(Says(), scheduler, x, timesteps),
        lambda x: DDIMSolver(Says(), scheduler)(x, timesteps, earlier),
    ):
        got = call(x)
        assert got.dtype == dtype
        assert_rounded_once(got, call(x.double()))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_attention_maps_of_a_network_in_half_precision_sum_to_1(dtype):
    """77 tokens, hundreds of places and steps are added up; torch's attention has the same weights
    for values that are the unit vectors."""
    torch.manual_seed(0)
    layer = Attention(16, heads=2, dim_head=8, cross_attention_dim=16).to(dtype)
    x, context = torch.randn(1, 64, 16).to(dtype), torch.randn(1, 77, 16).to(dtype)
    weights = layer.get_attention_scores(x, context)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 64), rtol=0, atol=1e-6)
    q, k = layer.split_heads(layer.to_q(x)), layer.split_heads(layer.to_k(context))
    units = torch.eye(77).double().expand(1, 2, 77, 77)
    expected = F.scaled_dot_product_attention(q.double(), k.double(), units)
    torch.testing.assert_close(weights.double(), expected, rtol=1e-5, atol=1e-7)
