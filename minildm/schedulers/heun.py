"""Heun's method on the probability-flow ODE (Karras et al. 2022, algorithm 1). Chapter 05."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minildm.configuration.mixins import register_to_config
from minildm.schedulers.base import checked_output
from minildm.schedulers.euler import euler_step
from minildm.schedulers.sigmas import VarianceExplodingScheduler
from minildm.schedulers.timesteps import warn_long_first_step


def heun_step(
    start: Tensor, slope: Tensor, slope_next: Tensor, sigma: Tensor, sigma_next: Tensor
) -> Tensor:
    """From `start` along the mean of the slopes at both ends of the step."""
    return start + (slope + slope_next) / 2 * (sigma_next - sigma)


class HeunDiscreteScheduler(VarianceExplodingScheduler):
    """Second order: halve the step and the error falls to a quarter. Each step but the last asks
    the network twice: at its beginning, for a try of Euler's, and at the end of that."""

    order = 2
    unsupported = {"use_beta_sigmas": (False, None)}

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "linear",
        trained_betas: tuple[float, ...] | None = None,
        prediction_type: str = "epsilon",
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        *,
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
    ):
        self.prepare()

    def visit(self, timesteps: np.ndarray, device: torch.device | str | None) -> None:
        """All but the first come twice: as the end of a step and the beginning of the next."""
        timesteps, sigmas = self.space_sigmas(timesteps, *self.sigmas_at(timesteps[[0, -1]]))
        warn_long_first_step(sigmas)
        self.set_sigmas(timesteps.repeat(2)[1:].astype("float32"), sigmas.repeat(2)[1:], device)
        self.started: tuple[Tensor, Tensor] | None = None

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
        x0 = self.clip(self.predict_x0(output, timestep, x))
        slope = (x - x0) / self.sigmas[i]
        self.index = i + 1
        if self.started is None:  # the try
            self.started = x, slope
            if self.sigmas[i + 1] == 0:  # no slope where there is no noise: the try is the step
                self.started = None
            return euler_step(x, x0, self.sigmas[i], self.sigmas[i + 1]).to(sample.dtype)
        start, slope_before = self.started
        self.started = None
        ended = heun_step(start, slope_before, slope, self.sigmas[i - 1], self.sigmas[i])
        return ended.to(sample.dtype)
