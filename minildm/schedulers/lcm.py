"""Sampling a latent consistency model: x₀ at one stroke, then again from less noise (Song et al.
2023; Luo et al. 2023). Chapter 15."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minildm.configuration.mixins import register_to_config
from minildm.diffusion.parameterization import noised
from minildm.schedulers.base import Scheduler, checked_output, fresh_noise

SIGMA_DATA = 0.5


def boundary_scalings(
    timestep: Tensor | float, timestep_scaling: float = 10.0
) -> tuple[Tensor | float, Tensor | float]:
    """c_skip and c_out of the consistency function c_skip·x_t + c_out·x̂₀: 1 and 0 at t = 0, where
    x_t is x₀ already, and nearly 0 and 1 soon after; Luo et al. 2023, section 4.1."""
    scaled = timestep * timestep_scaling
    return SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2), scaled / (scaled**2 + SIGMA_DATA**2) ** 0.5


class LCMScheduler(Scheduler):
    """For a network distilled to say, of any x_t on a path of the ODE, the x₀ where the path ends.
    A step takes that x₀ and noises it for the next timestep; the last one keeps it, so that one
    step is enough to draw.

    original_inference_steps: how many timesteps it was distilled on, evenly spaced; the steps are
        chosen among them.
    timestep_scaling: how soon after t = 0 the network is believed
    timestep_spacing, steps_offset, set_alpha_to_one: change nothing here, and are kept for the
        schedulers made from this one
    """

    unsupported = {
        "thresholding": False,
        "dynamic_thresholding_ratio": ...,
        "sample_max_value": ...,
    }

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "scaled_linear",
        trained_betas: tuple[float, ...] | None = None,
        original_inference_steps: int = 50,
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
        set_alpha_to_one: bool = True,
        steps_offset: int = 0,
        prediction_type: str = "epsilon",
        *,
        timestep_spacing: str = "leading",
        timestep_scaling: float = 10.0,
        rescale_betas_zero_snr: bool = False,
    ):
        if not 1 <= original_inference_steps <= num_train_timesteps:
            expected = f"original_inference_steps from 1 to {num_train_timesteps}"
            raise ValueError(f"expected {expected}, got {original_inference_steps}")
        self.prepare()

    @property
    def most_steps(self) -> int:
        return self.config.original_inference_steps

    def spaced_timesteps(self, count: int) -> np.ndarray:
        """`count` of the timesteps distilled on, the noisiest of all first."""
        original = self.config.original_inference_steps
        distilled = np.arange(original, 0, -1) * (self.config.num_train_timesteps // original) - 1
        return distilled[np.linspace(0, original, count, endpoint=False).astype(np.int64)]

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        t = self.checked_step(timestep)
        output, x = checked_output(model_output, sample)
        c_skip, c_out = boundary_scalings(t, self.config.timestep_scaling)
        x0 = c_skip * x + c_out * self.clip(self.predict_x0(output, t, x))
        later = self.timesteps[self.timesteps < t]
        if not len(later):
            return x0.to(sample.dtype)
        noise = fresh_noise(x, generator)
        return noised(x0, noise, *self.alpha_sigma(later[0], x)).to(sample.dtype)
