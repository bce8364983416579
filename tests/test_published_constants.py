"""The constants that diffusers' own scheduler tests publish (its tests/schedulers): the sum, or the
mean, of |x| after a whole loop, from an x and a network that are written down there."""

import pytest
import torch

import minildm

LINEAR = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
LONGER = {"num_train_timesteps": 1100, **LINEAR}
SOLVER = {
    **LINEAR,
    "solver_order": 2,
    "prediction_type": "epsilon",
    "thresholding": False,
    "sample_max_value": 1.0,
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    "lower_order_final": False,
    "euler_at_final": False,
    "lambda_min_clipped": -float("inf"),
    "variance_type": None,
    "final_sigmas_type": "sigma_min",
}
V = {"prediction_type": "v_prediction"}
KARRAS = {"use_karras_sigmas": True}


def start():
    """(4, 3, 8, 8), rising from 0 to nearly 1, the pictures side by side in memory."""
    return (torch.arange(768) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)


def noise():
    """The same numbers, falling."""
    return (torch.arange(768).flip(0) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)


def loop(name, config, steps, skipped=None):
    """x at the end; `steps` None: without set_timesteps. `skipped`: how many steps an x that noise
    is added to begins later."""
    scheduler = getattr(minildm, name)(**config)
    generator = torch.Generator().manual_seed(0)
    if steps is not None:
        scheduler.set_timesteps(steps)
    x = start()
    exploding = "Euler" in name or "Heun" in name
    if exploding:
        x = x * scheduler.init_noise_sigma
    timesteps = scheduler.timesteps
    if skipped is not None:
        timesteps = timesteps[skipped * scheduler.order :]
        x = scheduler.add_noise(x, noise(), timesteps[:1])
    options = {"generator": generator} if name[:4] in ("DDPM", "LCMS") or "Anc" in name else {}
    for t in timesteps:
        if exploding:  # the scaled x is what they hand to step, too
            x = scheduler.scale_model_input(x, t)
        x = scheduler.step(x * (t / (t + 1)), t, x, **options)
    return x.abs()


@pytest.mark.parametrize(
    "name, config, steps, skipped, total",
    [
        ("DDIMScheduler", LINEAR, 10, None, 172.0067),
        ("DDIMScheduler", LINEAR | V, 10, None, 52.5302),
        ("DDIMScheduler", LINEAR | {"beta_start": 0.01}, 10, None, 149.8295),
        (
            "DDIMScheduler",
            LINEAR | {"beta_start": 0.01, "set_alpha_to_one": False},
            10,
            None,
            149.0784,
        ),
        ("DDIMScheduler", LINEAR, 10, 8, 354.5418),
        ("DDPMScheduler", LINEAR, None, None, 258.9606),
        ("DDPMScheduler", LINEAR | V, None, None, 202.0296),
        ("DDPMScheduler", LINEAR, None, 998, 387.9466),
        ("PNDMScheduler", LINEAR, 10, None, 198.1318),
        ("PNDMScheduler", LINEAR | V, 10, None, 67.3986),
        (
            "PNDMScheduler",
            LINEAR | {"beta_start": 0.01, "set_alpha_to_one": True},
            10,
            None,
            230.0399,
        ),
        ("PNDMScheduler", LINEAR | {"beta_start": 0.01}, 10, None, 186.9482),
        ("EulerDiscreteScheduler", LONGER, 10, None, 10.0807),
        ("EulerDiscreteScheduler", LONGER | V, 10, None, 0.0002),
        ("EulerDiscreteScheduler", LONGER | KARRAS, 10, None, 124.52299499511719),
        ("EulerDiscreteScheduler", LONGER, 10, 8, 57062.9297),
        ("EulerAncestralDiscreteScheduler", LONGER, 10, None, 152.3192),
        ("EulerAncestralDiscreteScheduler", LONGER | V, 10, None, 108.4439),
        ("EulerAncestralDiscreteScheduler", LONGER, 10, 8, 56163.0508),
        ("HeunDiscreteScheduler", LONGER, 10, None, 0.1233),
        ("HeunDiscreteScheduler", LONGER | V, 10, None, 4.6934e-07),
        ("HeunDiscreteScheduler", LONGER | KARRAS, 10, None, 0.00015),
        ("HeunDiscreteScheduler", LONGER, 10, 8, 75074.8906),
        ("LCMScheduler", {}, 1, None, 18.7097),
        ("LCMScheduler", {}, 10, None, 197.7616),
        ("DPMSolverMultistepScheduler", SOLVER, 10, None, 0.3301 * 768),
        ("DPMSolverMultistepScheduler", SOLVER | V, 10, None, 0.2251 * 768),
        ("DPMSolverMultistepScheduler", SOLVER | V | KARRAS, 10, None, 0.2096 * 768),
        ("DPMSolverMultistepScheduler", SOLVER, 10, 5, 318.4111),
    ],
)
def test_a_loop_ends_where_diffusers_own_tests_say(name, config, steps, skipped, total):
    got = loop(name, config, steps, skipped).sum().item()
    # as they publish it: 1e-2 of the sum, 1e-3 of the mean where there is only that
    bound = 1e-3 * 768 if name.startswith("DPM") and skipped is None else 1e-2
    assert got == pytest.approx(total, rel=0, abs=bound)


@pytest.mark.parametrize("key", ["thresholding", "use_lu_lambdas"])
def test_the_two_published_loops_that_cannot_be_run_are_refused(key):
    with pytest.raises(ValueError, match=f"supports only {key} = False.*, got True"):
        minildm.DPMSolverMultistepScheduler(**SOLVER | {key: True})


@pytest.mark.parametrize(
    "name, steps, timesteps",
    [
        ("DDIMScheduler", 5, [801, 601, 401, 201, 1]),
        (
            "PNDMScheduler",
            10,
            [901, 851, 851, 801, 801, 751, 751, 701, 701, 651, 651, 601]
            + [601, 501, 401, 301, 201, 101, 1],
        ),
    ],
)
def test_an_offset_moves_the_timesteps_as_diffusers_own_tests_say(name, steps, timesteps):
    scheduler = getattr(minildm, name)(steps_offset=1)
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == timesteps


def test_ddpms_variances_are_those_of_diffusers_own_tests():
    from minildm.schedulers import ddpm_posterior

    alpha_prod = minildm.DDPMScheduler().alphas_cumprod
    for t, earlier, variance in ((487, 486, 0.00979), (999, 998, 0.02)):
        got = ddpm_posterior(0.0, 0.0, alpha_prod[t], alpha_prod[earlier])[1]
        assert got.item() == pytest.approx(variance, rel=0, abs=1e-5)
    for t, earlier, variance in ((420, 400, 0.14771), (980, 960, 0.32460)):  # DDIM's, at eta 1
        got = ddpm_posterior(0.0, 0.0, alpha_prod[t], alpha_prod[earlier])[1]
        assert got.item() == pytest.approx(variance, rel=0, abs=1e-5)
