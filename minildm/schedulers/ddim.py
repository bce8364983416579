"""Denoising diffusion implicit models: the same network, fewer steps, no noise (Song et al. 2020).
Chapter 05."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minildm.configuration.mixins import register_to_config
from minildm.schedulers.base import Scheduler, checked_output, fresh_noise
from minildm.schedulers.timesteps import warn_short_stride


def ddim_step(
    x0: Tensor, epsilon: Tensor, alpha_prod_t_prev: Tensor, std: Tensor | float = 0.0
) -> Tensor:
    """The mean of x_{t-1}: √ᾱ_{t-1}·x₀ + √(1 - ᾱ_{t-1} - std²)·ε, Song et al. 2020, eq. 12."""
    return alpha_prod_t_prev.sqrt() * x0 + (1 - alpha_prod_t_prev - std**2).sqrt() * epsilon


class DDIMScheduler(Scheduler):
    """A step takes x_t apart into x₀ and ε and puts them together again at the timestep before,
    which lies T // steps away, as in diffusers. With trailing or linspace spacing the next one that
    is visited may lie further; where that leaves noise, `set_timesteps` warns.

    set_alpha_to_one: after the last step ᾱ is 1; if False, that of timestep 0.
    """

    kind_of_timesteps = None
    unsupported = {
        "thresholding": False,
        "dynamic_thresholding_ratio": ...,
        "sample_max_value": ...,
    }

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: tuple[float, ...] | None = None,
        clip_sample: bool = True,
        set_alpha_to_one: bool = True,
        steps_offset: int = 0,
        prediction_type: str = "epsilon",
        *,
        clip_sample_range: float = 1.0,
        timestep_spacing: str = "leading",
        rescale_betas_zero_snr: bool = False,
    ):
        self.prepare()
        self.final_alpha_cumprod = torch.tensor(1.0) if set_alpha_to_one else self.alphas_cumprod[0]

    def visit(self, timesteps: np.ndarray, device: torch.device | str | None) -> None:
        super().visit(timesteps, device)
        self.stride = self.config.num_train_timesteps // len(timesteps)
        warn_short_stride(timesteps, self.stride)

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        eta: float = 0.0,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """eta: 0 adds no noise, 1 as much as DDPM; Song et al. 2020, eq. 16."""
        if not (isinstance(eta, (int, float)) and 0 <= eta <= 1):
            raise ValueError(f"expected an eta from 0 to 1, got {eta!r}")
        t = self.checked_step(timestep)
        output, x = checked_output(model_output, sample)
        previous = t - self.stride
        alpha_prod_t = self.alphas_cumprod[t]
        alpha_prod_t_prev = (
            self.alphas_cumprod[previous] if previous >= 0 else self.final_alpha_cumprod
        )
        x0 = self.clip(self.predict_x0(output, t, x))
        epsilon = self.predict_epsilon(output, t, x)
        variance = (
            (1 - alpha_prod_t_prev) / (1 - alpha_prod_t) * (1 - alpha_prod_t / alpha_prod_t_prev)
        )
        std = eta * variance.sqrt()
        mean = ddim_step(x0, epsilon, alpha_prod_t_prev, std)
        if eta != 0:
            mean = mean + std * fresh_noise(x, generator)
        return mean.to(sample.dtype)
