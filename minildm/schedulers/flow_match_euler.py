"""Flow matching: straight lines from noise to data, and Euler's method along them (Lipman et al.
2023; Liu et al. 2023; Esser et al. 2024). Chapters 05 and 14."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from minildm.configuration.kinds import LARGEST
from minildm.configuration.mixins import register_to_config
from minildm.schedulers.base import checked_output
from minildm.schedulers.sigmas import SigmaScheduler, shift_sigmas


class FlowMatchEulerDiscreteScheduler(SigmaScheduler):
    """x_t = (1 - σ)·x₀ + σ·ε with σ = t / T; a step follows the velocity ε - x₀ that the network
    predicts.

    shift: more than 1 spends more steps where there is much noise, as larger pictures need;
        Esser et al. 2024, eq. 23.
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
    prediction_types = ("flow_prediction",)
    kind_of_timesteps = None

    @register_to_config
    def __init__(self, num_train_timesteps: int = 1000, shift: float = 1.0):
        if not 1 <= num_train_timesteps <= LARGEST or not 0 < shift < math.inf:
            expected = f"num_train_timesteps from 1 to {LARGEST} and a finite shift > 0"
            raise ValueError(f"expected {expected}, got {num_train_timesteps} and {shift}")
        self.prepare()

    def prepare(self) -> None:
        """A straight line needs no betas, only its sigmas."""
        most = self.config.num_train_timesteps
        linear = np.arange(most, 0, -1) / most
        self.sigmas = torch.as_tensor(shift_sigmas(linear, self.config.shift)).float()
        self.sigma_min = float(shift_sigmas(np.array(1 / most), self.config.shift))
        self.timesteps = self.sigmas * most
        self.num_inference_steps = None
        self.index = None

    @property
    def prediction_type(self) -> str:
        return "flow_prediction"

    def spaced_timesteps(self, count: int) -> np.ndarray:
        """Even steps from all noise to the first timestep, then shifted."""
        evenly = np.linspace(1, self.sigma_min, count)
        return shift_sigmas(evenly, self.config.shift) * self.config.num_train_timesteps

    def visit(self, timesteps: np.ndarray, device: torch.device | str | None) -> None:
        sigmas = timesteps / self.config.num_train_timesteps
        self.set_sigmas(timesteps.astype(np.float32), sigmas, device)

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
        self.index = i + 1
        return (x + (self.sigmas[i + 1] - self.sigmas[i]) * output).to(sample.dtype)
