"""Ancestral Euler: below the aim, then up to it with fresh noise (Ho et al. 2020, in the sigmas of
Karras et al. 2022). Chapter 05."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minildm.configuration.mixins import register_to_config
from minildm.schedulers.base import checked_output, fresh_noise
from minildm.schedulers.euler import euler_step
from minildm.schedulers.sigmas import VarianceExplodingScheduler


def ancestral_sigmas(sigma: Tensor, sigma_next: Tensor) -> tuple[Tensor, Tensor]:
    """How far down the ODE to go, σ_down, and how much noise to add, σ_up, on the way from σ to σ'.

    σ_down² + σ_up² = σ'², and σ_up² = σ'²·(σ² - σ'²)/σ² is the variance of q(x' | x, x₀);
    DDPM eq. 7.
    """
    up = (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2).sqrt()
    return (sigma_next**2 - up**2).clamp(min=0).sqrt(), up  # rounding may leave less than nothing


class EulerAncestralDiscreteScheduler(VarianceExplodingScheduler):
    """DDPM's random walk, on the scale where Euler's method works ("Euler a"): it never settles,
    however many steps."""

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: tuple[float, ...] | None = None,
        prediction_type: str = "epsilon",
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
    ):
        self.prepare()

    def visit(self, timesteps: np.ndarray, device: torch.device | str | None) -> None:
        self.set_sigmas(timesteps.astype("float32"), self.sigmas_at(timesteps), device)

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        output, x = checked_output(model_output, sample)
        i = self.index_at(timestep)
        x0 = self.predict_x0(output, timestep, x)
        down, up = ancestral_sigmas(self.sigmas[i], self.sigmas[i + 1])
        self.index = i + 1
        below = euler_step(x, x0, self.sigmas[i], down)
        return (below + up * fresh_noise(x, generator)).to(sample.dtype)
