"""Flow matching: straight lines from noise to data, and Euler's method along them (Lipman et al.
2022; Liu et al. 2022; Esser et al. 2024). Chapters 05 and 14."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minildm.configuration import register_to_config
from minildm.schedulers.base import check_noise, check_output
from minildm.schedulers.sigmas import SigmaScheduler


class FlowMatchEulerDiscreteScheduler(SigmaScheduler):
    """x_t = (1 - σ)·x₀ + σ·ε with σ = t / T; the network predicts the velocity ε - x₀, which a step
    follows.

    shift: more than 1 spends more steps where there is much noise, as larger pictures need; Esser
        et al. 2024, eq. 23.
    """

    unsupported = {
        "use_dynamic_shifting": False,
        "base_shift": ...,
        "max_shift": ...,
        "base_image_seq_len": ...,
        "max_image_seq_len": ...,
        "invert_sigmas": False,
        "shift_terminal": None,
        "use_karras_sigmas": (False, None),
        "use_exponential_sigmas": (False, None),
        "use_beta_sigmas": (False, None),
        "time_shift_type": "exponential",
        "stochastic_sampling": False,
    }
    init_noise_sigma = 1.0

    @register_to_config
    def __init__(self, num_train_timesteps: int = 1000, shift: float = 1.0):
        if num_train_timesteps < 1 or not shift > 0:
            raise ValueError(
                f"expected num_train_timesteps >= 1 and shift > 0, got {num_train_timesteps} and {shift}"
            )
        self.num_inference_steps = self.index = None
        self.sigma_min = float(self.shifted(np.array(1 / num_train_timesteps)))
        linear = np.arange(num_train_timesteps, 0, -1) / num_train_timesteps
        self.sigmas = torch.as_tensor(self.shifted(linear)).float()
        self.timesteps = self.sigmas * num_train_timesteps

    def shifted(self, sigmas: np.ndarray) -> np.ndarray:
        return self.config.shift * sigmas / (1 + (self.config.shift - 1) * sigmas)

    def set_timesteps(
        self, num_inference_steps: int, device: torch.device | str | None = None
    ) -> None:
        self.check_steps(num_inference_steps)
        sigmas = self.shifted(np.linspace(1, self.sigma_min, num_inference_steps))
        self.set_sigmas(
            (sigmas * self.config.num_train_timesteps).astype(np.float32), sigmas, device
        )

    def alpha_sigma(self, timesteps: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]:
        """1 - σ and σ, shaped to multiply `like` (B, ...); timesteps, which may be fractions, from
        0 to T."""
        most, timesteps = self.config.num_train_timesteps, torch.as_tensor(timesteps)
        if timesteps.numel() and not 0 <= timesteps.min() <= timesteps.max() <= most:
            raise ValueError(f"expected timesteps from 0 to {most}, got {timesteps.tolist()}")
        sigma = timesteps.to(like.device, like.dtype) / most
        sigma = sigma.reshape(-1, *[1] * (like.ndim - 1))
        return 1 - sigma, sigma

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """ε - x₀, the same at every t. sample is x0 here."""
        check_noise(sample, noise, timesteps)
        return noise - sample

    def add_noise_at(self, x0: Tensor, noise: Tensor, timestep: Tensor | float) -> Tensor:
        sigma = self.sigmas[self.index_at(timestep)]
        return (1 - sigma) * x0 + sigma * noise

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        return sample

    def predict_x0(self, model_output: Tensor, timestep: Tensor | float, sample: Tensor) -> Tensor:
        return sample - self.sigmas[self.index_at(timestep)] * model_output

    def predict_epsilon(
        self, model_output: Tensor, timestep: Tensor | float, sample: Tensor
    ) -> Tensor:
        return sample + (1 - self.sigmas[self.index_at(timestep)]) * model_output

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        check_output(model_output, sample)
        i = self.index_at(timestep)
        self.index = i + 1
        return sample + (self.sigmas[i + 1] - self.sigmas[i]) * model_output
