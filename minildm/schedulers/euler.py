"""Euler's method on the probability-flow ODE (Karras et al. 2022, algorithm 1 of section 3).
Chapter 05."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minildm.configuration.mixins import register_to_config
from minildm.schedulers.base import checked_output
from minildm.schedulers.sigmas import VarianceExplodingScheduler


def euler_step(sample: Tensor, x0: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """A straight line from x in the direction dx/dσ = (x - x₀)/σ."""
    return sample + (sample - x0) / sigma * (sigma_next - sigma)


class EulerDiscreteScheduler(VarianceExplodingScheduler):
    """First order: halve the step and the error halves."""

    unsupported = {
        "interpolation_type": "linear",
        "use_beta_sigmas": (False, None),
        "sigma_min": None,
        "sigma_max": None,
        "timestep_type": "discrete",
    }

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: tuple[float, ...] | None = None,
        prediction_type: str = "epsilon",
        *,
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
        final_sigmas_type: str = "zero",
    ):
        self.prepare()

    def visit(self, timesteps: np.ndarray, device: torch.device | str | None) -> None:
        timesteps, sigmas = self.space_sigmas(timesteps, *self.sigmas_at(timesteps[[0, -1]]))
        self.set_sigmas(timesteps.astype("float32"), sigmas, device)

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        output, x = checked_output(model_output, sample)
        i = self.index_at(timestep)
        x0 = self.predict_x0(output, timestep, x)
        self.index = i + 1
        return euler_step(x, x0, self.sigmas[i], self.sigmas[i + 1]).to(sample.dtype)
