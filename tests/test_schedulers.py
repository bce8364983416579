import inspect
import itertools
import json
import math
import random

import diffusers
import numpy as np
import pytest
import torch

import minildm
from minildm.diffusion import BETA_SCHEDULES
from minildm.pipelines.compatibility import sampler_like
from minildm.schedulers import (
    SAMPLERS,
    SPACINGS,
    Scheduler,
    boundary_scalings,
    exponential_sigmas,
    karras_sigmas,
    sampler_name,
)
from minildm.training import DenoisingLoss

NAMES = [sampler.__name__ for sampler in SAMPLERS.values()]
DIFFUSION = [name for name in NAMES if not name.startswith("Flow")]
# What diffusers' class of that name lacks.
NO_SIGMOID = set(NAMES) - {"DDPMScheduler"}
NO_SAMPLE = {"EulerAncestralDiscreteScheduler"}
NO_ZERO_SNR = {"PNDMScheduler", "HeunDiscreteScheduler"}
STOCHASTIC = {"DDPMScheduler", "EulerAncestralDiscreteScheduler", "LCMScheduler"}
SPACE_SIGMAS = ["EulerDiscreteScheduler", "HeunDiscreteScheduler", "DPMSolverMultistepScheduler"]


def network(x, t):
    """Stands in for a U-Net: smooth, nonlinear, different at every timestep."""
    return torch.tanh(x * 0.7 + torch.sin(torch.as_tensor(t, dtype=torch.float32) / 100)) + 0.1 * x


def sample(scheduler, steps, seed=0):
    """The whole loop, as a pipeline runs it, for either library; all intermediate samples."""
    generator = torch.Generator().manual_seed(seed)
    scheduler.set_timesteps(steps)
    if getattr(scheduler, "begin_index", 0) is None:
        scheduler.set_begin_index(
            0
        )  # else diffusers takes the second of equal timesteps for the first
    x = torch.randn(2, 3, 5, 4, generator=generator) * scheduler.init_noise_sigma
    xs = [x]
    theirs = not isinstance(scheduler, Scheduler)
    stochastic = (
        {"generator": generator} if not theirs or type(scheduler).__name__ in STOCHASTIC else {}
    )
    for t in scheduler.timesteps:
        shown = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(shown, t), t, x, **stochastic)
        x = x.prev_sample if theirs else x
        xs.append(x)
    return torch.stack(xs)


def combinations():
    for name, beta_schedule, spacing, prediction, zero_snr in itertools.product(
        DIFFUSION, BETA_SCHEDULES, SPACINGS, ("epsilon", "sample", "v_prediction"), (False, True)
    ):
        if beta_schedule == "sigmoid" and name in NO_SIGMOID:
            continue
        if zero_snr and (prediction == "epsilon" or name in NO_ZERO_SNR):
            continue
        if prediction not in getattr(minildm, name).prediction_types or (
            prediction == "sample" and name in NO_SAMPLE
        ):
            continue
        config = {
            "beta_schedule": beta_schedule,
            "prediction_type": prediction,
            "timestep_spacing": spacing,
        }
        if beta_schedule == "scaled_linear":
            config |= {"beta_start": 0.00085, "beta_end": 0.012}
        if spacing == "leading":
            config["steps_offset"] = 1
        if zero_snr:
            config["rescale_betas_zero_snr"] = True
        if name == "PNDMScheduler":
            config["skip_prk_steps"] = True
        yield pytest.param(
            name, config, id=f"{name}-{beta_schedule}-{spacing}-{prediction}{'-zero' * zero_snr}"
        )


@pytest.mark.parametrize("name, config", list(combinations()))
def test_sampling_loops_are_those_of_diffusers(name, config):
    ours, theirs = getattr(minildm, name)(**config), getattr(diffusers, name)(**config)
    for steps in (2, 5, 10, 20):
        expected, got = sample(theirs, steps), sample(ours, steps)
        assert ours.timesteps.tolist() == theirs.timesteps.tolist()
        bound = 1e-5 * expected.abs().amax().item()
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=bound)


@pytest.mark.parametrize(
    "name, config",
    [
        ("DDPMScheduler", {"variance_type": "fixed_large"}),
        ("DDPMScheduler", {"clip_sample": False, "num_train_timesteps": 200}),
        (
            "DDPMScheduler",
            {"trained_betas": [0.001 * i for i in range(1, 101)], "num_train_timesteps": 100},
        ),
        ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
        ("DDIMScheduler", {"clip_sample_range": 0.5}),
        ("PNDMScheduler", {}),  # with Runge-Kutta's beginning
        ("PNDMScheduler", {"prediction_type": "v_prediction", "set_alpha_to_one": True}),
        ("EulerDiscreteScheduler", {"final_sigmas_type": "sigma_min"}),
        ("HeunDiscreteScheduler", {"clip_sample": True}),
        ("LCMScheduler", {"original_inference_steps": 100, "timestep_scaling": 1.0}),
        (
            "LCMScheduler",
            {"clip_sample": True, "num_train_timesteps": 300, "original_inference_steps": 40},
        ),
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"}),
        (
            "DPMSolverMultistepScheduler",
            {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"},
        ),
        ("DPMSolverMultistepScheduler", {"solver_order": 1}),
        ("DPMSolverMultistepScheduler", {"lower_order_final": False}),
        ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min"}),
        ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min", "euler_at_final": True}),
        (
            "DPMSolverMultistepScheduler",
            {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
        ),
        (
            "DPMSolverMultistepScheduler",
            {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
        ),
        ("FlowMatchEulerDiscreteScheduler", {}),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    ],
)
def test_other_options_are_those_of_diffusers(name, config):
    ours, theirs = getattr(minildm, name)(**config), getattr(diffusers, name)(**config)
    if name.startswith("Flow"):  # diffusers' has no such method; there is nothing to scale
        theirs.scale_model_input, theirs.init_noise_sigma = (lambda x, t: x), 1.0
    for steps in (4, 10, 25):
        expected, got = sample(theirs, steps), sample(ours, steps)
        torch.testing.assert_close(ours.timesteps, theirs.timesteps)
        torch.testing.assert_close(
            got, expected, rtol=1e-5, atol=1e-5 * expected.abs().amax().item()
        )


@pytest.mark.parametrize("name, beta_schedule, spacing, rule, prediction", [
    pytest.param(*case, id="-".join(case)) for case in itertools.product(
        SPACE_SIGMAS, ("scaled_linear", "squaredcos_cap_v2"), SPACINGS, ("karras", "exponential"),
        ("epsilon", "sample", "v_prediction"),
    )
])  # fmt: skip
def test_spaced_sigmas_are_those_of_diffusers(name, beta_schedule, spacing, rule, prediction):
    config = {
        "beta_schedule": beta_schedule,
        "timestep_spacing": spacing,
        "prediction_type": prediction,
    }
    config |= {
        f"use_{rule}_sigmas": True,
        "steps_offset": 1,
        "beta_start": 0.00085,
        "beta_end": 0.012,
    }
    ours, theirs = getattr(minildm, name)(**config), getattr(diffusers, name)(**config)
    for steps in (1, 2, 5, 20):
        expected, got = sample(theirs, steps), sample(ours, steps)
        torch.testing.assert_close(ours.sigmas, theirs.sigmas, rtol=1e-6, atol=0)
        torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(
            got, expected, rtol=1e-5, atol=1e-5 * expected.abs().amax().item()
        )


def test_karras_sigmas_take_short_steps_at_the_end_and_exponential_ones_equal_ratios():
    """Karras et al. 2022, eq. 5, at its ends and in the middle; the rule for a large rho."""
    karras, exponential = karras_sigmas(80, 0.002, 9), exponential_sigmas(80, 0.002, 9)
    for sigmas in (karras, exponential):
        assert sigmas[[0, -1]] == pytest.approx([80, 0.002]) and (sigmas[1:] < sigmas[:-1]).all()
    assert karras[4] == pytest.approx(((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7)
    assert exponential[1:] / exponential[:-1] == pytest.approx([(0.002 / 80) ** (1 / 8)] * 8)
    assert karras_sigmas(80, 0.002, 9, rho=1e6) == pytest.approx(exponential, rel=1e-4)


@pytest.mark.parametrize("name", SPACE_SIGMAS)
def test_two_spacings_of_sigmas_at_once_are_refused(name):
    with pytest.raises(ValueError, match="got both"):
        getattr(minildm, name)(use_karras_sigmas=True, use_exponential_sigmas=True)
    with pytest.raises(ValueError, match="got both"):
        flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
        minildm.DPMSolverMultistepScheduler(**flow, use_karras_sigmas=True)


@pytest.mark.parametrize("schedule", ["scaled_linear", "squaredcos_cap_v2"])
def test_a_loop_begun_in_the_middle_is_the_rest_of_the_whole_one(schedule):
    """By Karras's rule the cosine schedule's first timestep comes several times: one has to say
    which is meant."""
    config = {
        "use_karras_sigmas": True,
        "beta_schedule": schedule,
        "prediction_type": "v_prediction",
    }
    for name in SPACE_SIGMAS:
        scheduler = getattr(minildm, name)(
            **config, **({"solver_order": 1} if "DPM" in name else {})
        )
        expected = sample(scheduler, 8)
        for begin in (0, scheduler.order, 3 * scheduler.order):
            scheduler.set_timesteps(8)
            scheduler.set_begin_index(begin)
            x = expected[begin]
            for t in scheduler.timesteps[begin:]:
                x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x)
            torch.testing.assert_close(x, expected[-1], rtol=0, atol=0)


def test_ancestral_euler_is_ddpm_on_another_scale():
    """The same posterior (DDPM eq. 7), written in sigmas: from the same noise the same pictures,
    step by step."""
    config = {
        "timestep_spacing": "leading",
        "prediction_type": "v_prediction",
        "num_train_timesteps": 100,
    }
    ddpm, ancestral = minildm.DDPMScheduler(**config, clip_sample=False), Ancestral(**config)
    expected, got = sample(ddpm, 10), sample(ancestral, 10)
    kept = 1 / (1 + ancestral.sigmas**2)
    torch.testing.assert_close(
        got[1:] * kept[1:, None, None, None, None].sqrt(), expected[1:], rtol=1e-4, atol=1e-4
    )


def test_a_consistency_function_is_the_identity_at_time_0():
    assert boundary_scalings(0.0) == (1, 0)
    skip, out = boundary_scalings(19)  # the first timestep that it is distilled on, as a rule
    assert skip < 1e-5 and out > 0.99999


def test_the_last_step_of_lcm_is_the_networks_x0_and_the_others_noise_it_again():
    scheduler = minildm.LCMScheduler(prediction_type="sample")
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [999, 759, 499, 259]  # of 999, 979, ... , 19
    x, x0 = torch.randn(2, 1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scheduler.step(x0, 259, x), x0, rtol=0, atol=1e-5)
    left = (
        scheduler.step(x0, 999, x, torch.Generator().manual_seed(1))
        - scheduler.alphas_cumprod[759].sqrt() * x0
    )
    assert left.std().item() == pytest.approx(
        (1 - scheduler.alphas_cumprod[759]).sqrt().item(), rel=0.02
    )


@pytest.mark.parametrize("steps", [0, 1001])
def test_lcm_refuses_to_be_distilled_on_an_impossible_number_of_timesteps(steps):
    with pytest.raises(
        ValueError, match=f"expected original_inference_steps from 1 to 1000, got {steps}"
    ):
        minildm.LCMScheduler(original_inference_steps=steps)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_with_noise_is_that_of_diffusers(eta):
    ours, theirs = minildm.DDIMScheduler(), diffusers.DDIMScheduler()
    x, output = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(10)
    for t in theirs.timesteps:
        expected = theirs.step(
            output, t, x, eta=eta, generator=torch.Generator().manual_seed(1)
        ).prev_sample
        got = ours.step(output, t, x, eta=eta, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", DIFFUSION)
def test_the_forward_process_is_that_of_diffusers(name):
    ours, ddpm = (
        getattr(minildm, name)(),
        diffusers.DDPMScheduler(**_betas(getattr(minildm, name)())),
    )
    # diffusers' DPM-Solver has no right sigmas before set_timesteps
    theirs = ddpm if name.startswith("DPM") else getattr(diffusers, name)()
    x0, noise = torch.randn(2, 4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 10, 500, 999])
    torch.testing.assert_close(ours.add_noise(x0, noise, t), theirs.add_noise(x0, noise, t))
    torch.testing.assert_close(ours.get_velocity(x0, noise, t), ddpm.get_velocity(x0, noise, t))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", [*SPACE_SIGMAS, "EulerAncestralDiscreteScheduler"])
def test_noise_is_added_at_a_samplers_own_timesteps_as_in_diffusers(name, spacing):
    """x₀ + σ·ε for Euler's kind, by the σ that the timestep has in the table, however spaced."""
    x0, noise = torch.randn(2, 7, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for rule in ({}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}):
        if rule and name not in SPACE_SIGMAS:
            continue
        ours = getattr(minildm, name)(timestep_spacing=spacing, **rule)
        theirs = getattr(diffusers, name)(timestep_spacing=spacing, **rule)
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(7)
        t = theirs.timesteps[:: theirs.order]
        got, expected = ours.add_noise(x0, noise, t), theirs.add_noise(x0, noise, t)
        bound = 1e-6 * expected.abs().amax().item()
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=bound)
        for begin in (0, 3):  # as a pipeline that begins from a picture
            for scheduler in (ours, theirs):
                scheduler.set_begin_index(begin * theirs.order)
            got = ours.add_noise(x0, noise, t[begin : begin + 1])
            expected = theirs.add_noise(x0, noise, t[begin : begin + 1].expand(len(x0)))
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=bound)


@pytest.mark.parametrize("name", [name for name in DIFFUSION if name != "LCMScheduler"])
def test_a_network_is_trained_on_its_own_scale_whatever_the_samplers_is(name):
    """√ᾱ·x₀ + √(1 - ᾱ)·ε, DDPM eq. 4, for a sampler that steps in x₀ + σ·ε, too."""
    seen = []

    class Looks(torch.nn.Module):
        def forward(self, x, t):
            seen.append(x)
            return x

    scheduler = getattr(minildm, name)()
    scheduler.set_timesteps(5)
    x0, noise = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([3, 250, 999])
    DenoisingLoss(Looks(), scheduler)(x0, noise, t)
    expected = diffusers.DDPMScheduler(**_betas(scheduler)).add_noise(x0, noise, t)
    torch.testing.assert_close(seen[0], expected)


def _betas(scheduler):
    return {key: scheduler.config[key] for key in ("beta_start", "beta_end", "beta_schedule")}


def test_epsilon_x0_and_v_are_one_quantity():
    x0, noise = torch.randn(
        2, 4, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    t = torch.tensor([1, 10, 500, 900])
    outputs = {
        "epsilon": noise,
        "sample": x0,
        "v_prediction": minildm.DDPMScheduler().get_velocity(x0, noise, t),
    }
    for prediction_type, output in outputs.items():
        scheduler = minildm.DDPMScheduler(prediction_type=prediction_type)
        xt = scheduler.add_noise(x0, noise, t)
        torch.testing.assert_close(scheduler.predict_x0(output, t, xt), x0, rtol=0, atol=1e-6)
        torch.testing.assert_close(
            scheduler.predict_epsilon(output, t, xt), noise, rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("name", NAMES)
def test_x0_of_the_true_output_for_noised_x0_is_x0_all_along_the_way(name):
    scheduler = getattr(minildm, name)()
    scheduler.set_timesteps(10)
    x0, noise = torch.randn(
        2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    for t in scheduler.timesteps[[0, 3, -1]]:
        xt, output = (
            scheduler.add_noise_at(x0, noise, t),
            noise - x0 if isinstance(scheduler, Flow) else noise,
        )
        torch.testing.assert_close(scheduler.predict_x0(output, t, xt), x0, rtol=0, atol=1e-4)
        torch.testing.assert_close(
            scheduler.predict_epsilon(output, t, xt), noise, rtol=0, atol=1e-4
        )


Flow, Ancestral = minildm.FlowMatchEulerDiscreteScheduler, minildm.EulerAncestralDiscreteScheduler

# Data that is Gaussian with standard deviation S: the ideal network and the exact path are known.
S = 0.5


def gaussian_error(name, steps):
    """How far a sampler ends from the exact solution of the probability-flow ODE, from the same
    noise."""
    config = {"prediction_type": "epsilon", "beta_schedule": "scaled_linear", "clip_sample": False}
    config |= {
        "timestep_spacing": "trailing",
        "final_sigmas_type": "sigma_min",
        "beta_start": 1e-4,
        "beta_end": 0.02,
    }
    scheduler = getattr(minildm, name).from_config(config)
    scheduler.set_timesteps(steps)
    alpha_prod_t = scheduler.alphas_cumprod.double()
    noise = torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        left = alpha_prod_t[int(t)]
        shown = scheduler.scale_model_input(x, t)
        epsilon = (1 - left).sqrt() * shown / (left * S**2 + 1 - left)  # E[noise | x_t]
        x = scheduler.step(epsilon, t, x)
    start = alpha_prod_t[int(scheduler.timesteps[0])]
    deviation = (
        start * S**2 + 1 - start
    ).sqrt()  # of x_t there; the ODE keeps every x at its quantile
    if "Euler" in name:
        x0_scale = (S**2 + (1 - alpha_prod_t[0]) / alpha_prod_t[0]).sqrt()
        return (
            (x / x0_scale - noise * scheduler.init_noise_sigma * start.sqrt() / deviation)
            .abs()
            .max()
            .item()
        )
    end = alpha_prod_t[0] if "DPM" in name else torch.tensor(1.0)
    return (x / (end * S**2 + 1 - end).sqrt() - noise / deviation).abs().max().item()


@pytest.mark.parametrize(
    "name, order",
    [("DDIMScheduler", 1), ("EulerDiscreteScheduler", 1), ("DPMSolverMultistepScheduler", 2)],
)
def test_the_error_falls_with_the_order_of_the_method(name, order):
    coarse, fine = gaussian_error(name, 25), gaussian_error(name, 100)
    assert fine < coarse / 4 ** (order - 0.4)


def test_ddpm_posterior_is_that_of_gaussians():
    """Bayes on a grid: q(x_{t-1} | x_t, x_0) ∝ q(x_t | x_{t-1}) q(x_{t-1} | x_0)."""
    from minildm.schedulers import ddpm_posterior

    alpha_prod_t = minildm.DDPMScheduler().alphas_cumprod.double()
    x0, xt, t = 0.7, -0.4, 300
    alpha = alpha_prod_t[t] / alpha_prod_t[t - 1]
    x = torch.linspace(-6, 6, 200001, dtype=torch.float64)
    log = -((xt - alpha.sqrt() * x) ** 2) / (2 * (1 - alpha))
    log = log - (x - alpha_prod_t[t - 1].sqrt() * x0) ** 2 / (2 * (1 - alpha_prod_t[t - 1]))
    weights = log.softmax(0)
    mean = (weights * x).sum()
    variance = (weights * (x - mean) ** 2).sum()
    got = ddpm_posterior(x0, xt, alpha_prod_t[t], alpha_prod_t[t - 1])
    torch.testing.assert_close(torch.stack(got), torch.stack([mean, variance]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_configurations_are_read_by_diffusers_and_read_from_it(name, tmp_path):
    config = (
        {}
        if name.startswith("Flow")
        else {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 500}
    )
    ours, theirs = getattr(minildm, name), getattr(diffusers, name)
    ours(**config).save_pretrained(tmp_path / "ours")
    theirs(**config).save_pretrained(tmp_path / "theirs")
    opened = ours.from_pretrained(tmp_path / "theirs").config
    file = json.loads((tmp_path / "theirs" / "scheduler_config.json").read_text())
    said = {key: value for key, value in file.items() if key[:1] != "_"}
    assert dict(opened) == said and said.keys() >= ours().config.keys()
    opened = theirs.from_pretrained(tmp_path / "ours")
    assert {key: opened.config[key] for key in ours(**config).config} == dict(ours(**config).config)


# What lies in `scheduler/` of the published models. Older files say less than the classes have
# learned to ask since, and each says things that its class does not ask.
STABLE_DIFFUSION = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "trained_betas": None,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
PUBLISHED_FILES = {
    "v1-1": ("PNDMScheduler", STABLE_DIFFUSION),
    "v1-5": ("PNDMScheduler", STABLE_DIFFUSION | {"clip_sample": False}),
    "2-1": (
        "DDIMScheduler",
        STABLE_DIFFUSION | {"clip_sample": False, "prediction_type": "v_prediction"},
    ),
    "2-1-base": (
        "EulerDiscreteScheduler",
        STABLE_DIFFUSION | {"clip_sample": False, "prediction_type": "epsilon"},
    ),
    "turbo": (
        "EulerDiscreteScheduler",
        STABLE_DIFFUSION
        | {
            "clip_sample": False,
            "interpolation_type": "linear",
            "prediction_type": "epsilon",
            "sample_max_value": 1.0,
            "timestep_spacing": "trailing",
            "use_karras_sigmas": False,
        },
    ),
}


def same_configuration(ours, theirs):
    """Every key of ours, own or carried along, has diffusers' value, and so has every key that was
    given."""
    expected = {key: theirs.config[key] for key in ours.config}
    assert {**ours.config} == expected
    left = {*theirs.config.get("_use_default_values", ())}
    given = {key for key in theirs.config if key[:1] != "_" and key not in left}
    assert {key for key in ours.config if key not in ours.config.defaults} == given


@pytest.mark.parametrize("model", PUBLISHED_FILES)
def test_from_config_over_every_pair_of_classes_is_that_of_diffusers(model, tmp_path):
    file_class, said = PUBLISHED_FILES[model]
    content = {"_class_name": file_class, "_diffusers_version": "0.8.0", **said}
    (tmp_path / "scheduler_config.json").write_text(json.dumps(content))
    opened = getattr(minildm, file_class).from_pretrained(tmp_path).config
    expected = getattr(diffusers, file_class).from_pretrained(tmp_path).config
    for first in NAMES:
        ours = getattr(minildm, first).from_config(opened)
        theirs = getattr(diffusers, first).from_config(expected)
        same_configuration(ours, theirs)
        for second in NAMES:
            pair = (
                getattr(minildm, second).from_config(ours.config),
                getattr(diffusers, second).from_config(theirs.config),
            )
            same_configuration(*pair)
            for scheduler in pair:
                scheduler.set_timesteps(5)
            torch.testing.assert_close(pair[0].timesteps, pair[1].timesteps)


def test_what_was_given_is_handed_on_along_any_way_and_what_was_not_is_not():
    """From objects instead of files: some keys are given, three classes one after the other."""
    rng = random.Random(0)
    choices = {
        "num_train_timesteps": [500, 1000],
        "beta_start": [0.0001, 0.00085],
        "beta_end": [0.012, 0.02],
        "beta_schedule": ["linear", "squaredcos_cap_v2"],
        "clip_sample": [True, False],
        "clip_sample_range": [0.5, 1.0],
        "set_alpha_to_one": [True, False],
        "steps_offset": [0, 1],
        "timestep_spacing": [*SPACINGS],
        "use_karras_sigmas": [True, False],
        "final_sigmas_type": ["zero", "sigma_min"],
        "solver_order": [1, 2],
        "original_inference_steps": [20, 50],
        "skip_prk_steps": [True, False],
        "shift": [1.0, 3.0],
    }
    for _ in range(150):
        way = rng.choices(NAMES, k=3)
        own = [key for key in choices if key in getattr(minildm, way[0])().config]
        said = {key: rng.choice(choices[key]) for key in rng.sample(own, rng.randint(0, len(own)))}
        ours, theirs = getattr(minildm, way[0])(**said), getattr(diffusers, way[0])(**said)
        for name in way[1:]:
            key = rng.choice([key for key in choices if key in getattr(minildm, name)().config])
            change = {key: rng.choice(choices[key])} if rng.random() < 0.3 else {}
            ours = getattr(minildm, name).from_config(ours.config, **change)
            theirs = getattr(diffusers, name).from_config(theirs.config, **change)
            same_configuration(ours, theirs)


def test_stable_diffusions_sampler_becomes_another_as_in_diffusers(tmp_path):
    """Neither clips latents, and Euler begins at all noise: neither was said, but clip_sample."""
    said = PUBLISHED_FILES["v1-5"][1]
    pndm = minildm.PNDMScheduler.from_config(said)
    assert minildm.DDIMScheduler.from_config(pndm.config).config.clip_sample is False
    euler = minildm.EulerDiscreteScheduler.from_config(pndm.config)
    euler.set_timesteps(5)
    assert euler.timesteps[[0, -1]].tolist() == [999, 0]
    chosen = sampler_like(pndm, "euler")  # as a pipeline's use_sampler
    chosen.set_timesteps(5)
    assert chosen.timesteps.tolist() == euler.timesteps.tolist()
    euler.save_pretrained(tmp_path)
    again = minildm.EulerDiscreteScheduler.from_pretrained(tmp_path)
    assert again.config == euler.config and again.config.clip_sample is False


def test_what_another_class_does_with_a_key_is_not_done_by_one_that_carries_it():
    said = {"final_sigmas_type": "sigma_min", "use_karras_sigmas": True}
    euler = minildm.EulerDiscreteScheduler(**said)
    carrier = Ancestral.from_config(euler.config)
    assert carrier.config.use_karras_sigmas is True and sampler_name(carrier) == "euler_a"
    carrier.set_timesteps(5)
    alone = Ancestral()
    alone.set_timesteps(5)
    torch.testing.assert_close(carrier.sigmas, alone.sigmas, rtol=0, atol=0)
    zero = minildm.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    pndm = minildm.PNDMScheduler.from_config(zero.config)
    torch.testing.assert_close(pndm.betas, minildm.PNDMScheduler().betas, rtol=0, atol=0)


@pytest.mark.parametrize("betas", [list, tuple, np.array, torch.tensor])
def test_trained_betas_are_as_many_as_the_timesteps_in_whatever_they_come(betas):
    """Where one number is of another length than the other, diffusers fails somewhere later."""
    some = [0.001 * i for i in range(1, 101)]
    ours = minildm.DDPMScheduler(num_train_timesteps=100, trained_betas=betas(some))
    theirs = diffusers.DDPMScheduler(num_train_timesteps=100, trained_betas=some)
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod)
    assert type(ours.config.trained_betas) is tuple
    for count in (99, 101, 1000):
        expected = f"expected as many trained_betas as num_train_timesteps={count}, got 100"
        with pytest.raises(ValueError, match=expected):
            minildm.EulerDiscreteScheduler(num_train_timesteps=count, trained_betas=betas(some))


@pytest.mark.parametrize("name", NAMES)
def test_what_nobody_chose_is_as_in_diffusers(name):
    theirs = inspect.signature(getattr(diffusers, name)).parameters
    for key, parameter in inspect.signature(getattr(minildm, name)).parameters.items():
        assert parameter.default == theirs[key].default, key


@pytest.mark.parametrize("other", DIFFUSION)
@pytest.mark.parametrize("name", DIFFUSION)
def test_one_scheduler_is_made_from_anothers_configuration(name, other):
    made = getattr(minildm, name).from_config(getattr(minildm, other)(beta_end=0.015).config)
    assert made.config.beta_end == 0.015


def test_a_key_that_no_scheduler_knows_is_named():
    with pytest.raises(ValueError, match="does not support the configuration key 'warp'"):
        minildm.DDIMScheduler.from_config({"warp": 9})


def test_a_setting_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="supports only use_beta_sigmas = False"):
        minildm.EulerDiscreteScheduler.from_config({"use_beta_sigmas": True})


@pytest.mark.parametrize("name", [name for name in DIFFUSION if name not in NO_ZERO_SNR])
def test_zero_terminal_snr_with_epsilon_is_refused(name):
    with pytest.raises(ValueError, match="divide by zero"):
        getattr(minildm, name)(rescale_betas_zero_snr=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [0, -3, 1001, 1.5, "5"])
def test_impossible_numbers_of_steps_are_refused(name, steps):
    most = 50 if name == "LCMScheduler" else 1000
    with pytest.raises(
        ValueError, match=f"expected num_inference_steps from 1 to {most}, got {steps!r}"
    ):
        getattr(minildm, name)().set_timesteps(steps)


@pytest.mark.parametrize("name", NAMES)
def test_without_set_timesteps_all_are_visited_or_a_step_is_refused_as_in_diffusers(name):
    config = {} if name == "LCMScheduler" else {"num_train_timesteps": 30}
    ours, theirs = getattr(minildm, name)(**config), getattr(diffusers, name)(**config)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    generators = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    if name not in [*STOCHASTIC - {"LCMScheduler"}, "EulerDiscreteScheduler", *SPACE_SIGMAS[:2]]:
        with pytest.raises((ValueError, TypeError, IndexError)):  # as it happens, in diffusers
            for t in theirs.timesteps:
                x = theirs.step(network(x, t), t, x).prev_sample
        with pytest.raises(ValueError, match="expected set_timesteps"):
            ours.step(x, 10, x)
        return
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    options = [{"generator": each} if name in STOCHASTIC else {} for each in generators]
    got = expected = x
    for t in theirs.timesteps:
        got = ours.step(network(ours.scale_model_input(got, t), t), t, got, **options[0])
        said = network(theirs.scale_model_input(expected, t), t)
        expected = theirs.step(said, t, expected, **options[1]).prev_sample
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


FEW = [900, 700, 450, 200, 20, 1]


@pytest.mark.parametrize("name", ["DDPMScheduler", "LCMScheduler", *SPACE_SIGMAS])
def test_timesteps_of_ones_own_are_visited_as_in_diffusers(name):
    ours, theirs = getattr(minildm, name)(), getattr(diffusers, name)()
    generators = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    options = [{"generator": each} if name in STOCHASTIC else {} for each in generators]
    ours.set_timesteps(timesteps=FEW)
    theirs.set_timesteps(timesteps=FEW)
    theirs.set_begin_index(0) if hasattr(theirs, "set_begin_index") else None
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    assert ours.num_inference_steps == len(FEW)
    got = expected = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for t in theirs.timesteps:
        got = ours.step(network(ours.scale_model_input(got, t), t), t, got, **options[0])
        said = network(theirs.scale_model_input(expected, t), t)
        expected = theirs.step(said, t, expected, **options[1]).prev_sample
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    between = torch.tensor([900.5, 20.25])
    if name in SPACE_SIGMAS[:2]:
        ours.set_timesteps(timesteps=between)
        assert ours.timesteps[0] == 900.5
    else:
        with pytest.raises(ValueError, match="expected timesteps: whole numbers that fall"):
            ours.set_timesteps(timesteps=between)


@pytest.mark.parametrize("name", NAMES)
def test_timesteps_that_cannot_be_visited_are_refused(name):
    scheduler = getattr(minildm, name)()
    alone = "Flow" in name or name in ("DDIMScheduler", "PNDMScheduler")
    expected = "has timesteps of its own only" if alone else "that fall within 999 … 0, got"
    for timesteps in ([1000], [5, 5], [1, 2], [3, -1], [], [[2, 1]], [float("nan")]):
        with pytest.raises(ValueError, match=expected):
            scheduler.set_timesteps(timesteps=timesteps)
    with pytest.raises(ValueError, match="expected num_inference_steps or timesteps, got both"):
        scheduler.set_timesteps(2, timesteps=[2, 1])
    with pytest.raises(ValueError, match="expected num_inference_steps from 1 to"):
        scheduler.set_timesteps()


@pytest.mark.parametrize("name", SPACE_SIGMAS)
def test_timesteps_of_ones_own_beside_a_rule_for_their_sigmas_are_refused(name):
    scheduler = getattr(minildm, name)(use_karras_sigmas=True)
    with pytest.raises(ValueError, match="expected timesteps or use_karras_sigmas, got both"):
        scheduler.set_timesteps(timesteps=FEW)


@pytest.mark.parametrize("name", NAMES)
def test_positional_arguments_of_a_step_mean_what_they_mean_in_diffusers(name):
    """Their fourth is eta, s_churn, generator or return_dict; ours is one of them or refused."""
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    for method in ("step", "set_timesteps", "add_noise", "get_velocity"):
        theirs = getattr(getattr(diffusers, name), method, None)
        if theirs is None:
            continue
        ours = inspect.signature(getattr(getattr(minildm, name), method)).parameters.values()
        positional = [each.name for each in ours if each.kind in kinds]
        assert positional == [*inspect.signature(theirs).parameters][: len(positional)], method


@pytest.mark.parametrize("name", NAMES)
def test_a_step_says_what_it_returns_to_those_who_ask_for_return_dict(name):
    scheduler, x = getattr(minildm, name)(), torch.zeros(1, 1, 2, 2)
    scheduler.set_timesteps(5)
    for value in (True, False):
        with pytest.raises(ValueError, match=f"no return_dict, got {value}; a tensor itself"):
            scheduler.step(x, scheduler.timesteps[0], x, return_dict=value)
    with pytest.raises(TypeError, match="s_noise"):
        scheduler.step(x, scheduler.timesteps[0], x, s_noise=1.1)


def test_the_fourth_argument_of_ddims_step_is_eta():
    ours, theirs = minildm.DDIMScheduler(), diffusers.DDIMScheduler()
    x, output = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(10)
    generators = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    got = ours.step(output, 500, x, 1.0, generator=generators[0])
    expected = theirs.step(output, 500, x, 1.0, generator=generators[1]).prev_sample
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    for eta in (-0.1, 1.1, float("nan"), generators[0]):
        with pytest.raises(ValueError, match="expected an eta from 0 to 1, got"):
            ours.step(output, 500, x, eta)


@pytest.mark.parametrize(
    "name", ["EulerDiscreteScheduler", "HeunDiscreteScheduler", "PNDMScheduler"]
)
def test_a_step_takes_no_fourth_argument_where_it_would_be_ignored(name):
    scheduler, x = getattr(minildm, name)(), torch.zeros(1, 1, 2, 2)
    scheduler.set_timesteps(5)
    with pytest.raises(TypeError, match="positional arguments"):
        scheduler.step(x, scheduler.timesteps[0], x, 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_set_timesteps_forgets_the_steps_before(name):
    scheduler = getattr(minildm, name)()
    torch.testing.assert_close(sample(scheduler, 7), sample(scheduler, 7), rtol=0, atol=0)


@pytest.mark.parametrize(
    "config, message",
    [
        (
            {"prediction_type": "noise"},
            "expected a prediction_type of epsilon, sample, v_prediction, got 'noise'",
        ),
        (
            {"timestep_spacing": "even"},
            "expected a timestep_spacing of leading, trailing, linspace, got 'even'",
        ),
        ({"beta_schedule": "flat"}, "expected a beta_schedule of linear, .*, got 'flat'"),
        (
            {"beta_start": 0.5, "beta_end": 0.1},
            "expected 0 < beta_start <= beta_end < 1, got 0.5 and 0.1",
        ),
        (
            {"trained_betas": (0.1, 2.0)},
            r"expected trained_betas in \(0, 1\], at least one, got \(0.1, 2.0\)",
        ),
        ({"trained_betas": ()}, r"expected trained_betas in \(0, 1\], at least one, got \(\)"),
        (
            {"variance_type": "learned"},
            "expected a variance_type of fixed_small, fixed_large, got 'learned'",
        ),
    ],
)
def test_bad_configurations_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        minildm.DDPMScheduler(**config)


def test_a_timestep_that_does_not_exist_is_named():
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="expected timesteps from 0 to 999, got"):
        minildm.DDPMScheduler().add_noise(x, x, torch.tensor([1000]))


@pytest.mark.parametrize("name", NAMES)
def test_shapes_that_would_multiply_into_larger_ones_are_refused(name):
    scheduler, x = getattr(minildm, name)(), torch.zeros(2, 4, 8, 8)
    for add in (scheduler.add_noise, scheduler.get_velocity):
        with pytest.raises(ValueError, match="expected noise of the samples' shape"):
            add(x, x[:, :1], torch.tensor([1, 2]))
        with pytest.raises(ValueError, match=r"one per sample \(2\), got \(3,\)"):
            add(x, x, torch.tensor([1, 2, 3]))
        for one in (torch.tensor([5]), torch.tensor(5)):
            expected = add(x, x, torch.tensor([5, 5]))
            torch.testing.assert_close(add(x, x, one), expected, rtol=0, atol=0)
    scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match="expected a model_output of the sample's shape"):
        scheduler.step(x[:, :1], scheduler.timesteps[0], x)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("timestep", [-7, 5000])
def test_a_step_from_a_timestep_that_does_not_exist_is_refused(name, timestep):
    scheduler, x = getattr(minildm, name)(), torch.zeros(2, 4, 8, 8)
    scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match="timestep"):
        scheduler.step(x, timestep, x)
    with pytest.raises(ValueError, match="timesteps from 0 to"):
        scheduler.add_noise(x, x, torch.tensor([timestep, 1]))


def test_a_timestep_between_two_is_refused_where_there_is_none():
    x = torch.zeros(2, 4, 8, 8)
    with pytest.raises(ValueError, match="expected timesteps that are whole numbers, got"):
        minildm.DDPMScheduler().add_noise(x, x, torch.tensor([1.5, 2.0]))


@pytest.mark.parametrize(
    ("name", "prediction_type"),
    [*itertools.product(("ddpm", "ddim"), Scheduler.prediction_types), ("flow_euler", None)],
)
def test_what_the_network_is_trained_to_say_leads_back_to_x0_and_noise(name, prediction_type):
    scheduler = SAMPLERS[name](**({"prediction_type": prediction_type} if prediction_type else {}))
    x0, noise = torch.randn(
        2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    scheduler.set_timesteps(10)
    for t in scheduler.timesteps[2:]:
        timesteps = t.expand(len(x0))
        target = scheduler.training_target(x0, noise, timesteps)
        xt = scheduler.add_noise(x0, noise, timesteps)
        torch.testing.assert_close(scheduler.predict_x0(target, t, xt), x0, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            scheduler.predict_epsilon(target, t, xt), noise, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("runge_kutta", [True, False])
@pytest.mark.parametrize("order", [[0, 0], [0, 3], [0, 1, 0]])
def test_pndm_refuses_steps_out_of_turn(runge_kutta, order):
    """A step is made of those before it, so another order would be another, wrong drawing."""
    scheduler = minildm.PNDMScheduler(skip_prk_steps=not runge_kutta)
    scheduler.set_timesteps(10)
    x = torch.randn(1, 1, 2, 2)
    *taken, last = order
    for place in taken:
        scheduler.step(x, scheduler.timesteps[place], x)
    with pytest.raises(ValueError, match="expected timestep [0-9]+, which comes next, got"):
        scheduler.step(x, scheduler.timesteps[last], x)


def test_pndm_refuses_a_step_after_the_last_and_runge_kuttas_beginning_at_an_image():
    scheduler, x = minildm.PNDMScheduler(skip_prk_steps=True), torch.randn(1, 1, 2, 2)
    scheduler.set_timesteps(3)
    scheduler.set_begin_index(2)
    for timestep in scheduler.timesteps[2:]:
        scheduler.step(x, timestep, x)
    with pytest.raises(ValueError, match="all 4 steps are taken"):
        scheduler.step(x, timestep, x)
    beginning = minildm.PNDMScheduler()
    beginning.set_timesteps(10)
    with pytest.raises(ValueError, match="expected skip_prk_steps=True to begin at an image"):
        beginning.set_begin_index(2)


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler", "PNDMScheduler"])
@pytest.mark.parametrize(
    ("timestep", "expected"),
    [
        (899.5, "a whole number from 0 to 999"),
        (-1, "a whole number from 0 to 999"),
        (1000, "a whole number from 0 to 999"),
        (math.nan, "one number"),
    ],
)
def test_a_step_begins_at_a_whole_timestep(name, timestep, expected):
    scheduler, x = getattr(minildm, name)(), torch.randn(1, 1, 2, 2)
    scheduler.set_timesteps(10)
    with pytest.raises(ValueError, match=f"expected a timestep, {expected}, got {timestep}"):
        scheduler.step(x, timestep, x)
