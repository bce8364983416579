"""Samplers that count in sigmas: x/√ᾱ = x₀ + σ·ε with σ = √((1 - ᾱ)/ᾱ), and solve dx/dσ = ε (Karras et al. 2022).
Chapter 05."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minildm.schedulers.base import Scheduler, to_x0


class SigmaScheduler(Scheduler):
    """A scheduler with a table of `sigmas`, one for every timestep to visit and one for the end."""

    def prepare(self) -> None:
        super().prepare()
        if self.config.get("rescale_betas_zero_snr"):
            self.alphas_cumprod[-1] = 2**-24  # not quite 0, so that the first sigma is not infinite
        self.sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().flip(0)
        self.index: int | None = None

    def sigmas_at(self, timesteps: np.ndarray) -> np.ndarray:
        """The sigmas of timesteps, which may lie between two, by linear interpolation."""
        sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().numpy()
        return np.interp(timesteps, np.arange(len(sigmas)), sigmas)

    def set_sigmas(self, timesteps: np.ndarray, sigmas: np.ndarray, device: torch.device | str | None) -> None:
        """Visit these; the end has no noise, or with final_sigmas_type "sigma_min" that of timestep 0."""
        final = self.sigmas_at(np.zeros(1))[0] if self.config.get("final_sigmas_type") == "sigma_min" else 0.0
        self.sigmas = torch.from_numpy(np.append(sigmas, final).astype(np.float32))
        self.timesteps = torch.from_numpy(timesteps).to(device)
        self.index = None

    def index_at(self, timestep: Tensor | float) -> int:
        """Where in the table we are: at first looked up by the timestep, then counted by `step`."""
        self.require_timesteps()
        if self.index is not None:
            return self.index
        places = (self.timesteps.cpu() == torch.as_tensor(timestep).cpu()).nonzero().flatten().tolist()
        if not places:
            raise ValueError(f"expected one of the timesteps {self.timesteps.tolist()}, got {float(timestep):g}")
        return places[min(1, len(places) - 1)]  # of two equal ones the second, for one that starts in the middle

    def noised(self, x0: Tensor, noise: Tensor, timestep: Tensor | float) -> Tensor:
        return x0 + self.sigmas[self.index_at(timestep)] * noise

    @property
    def init_noise_sigma(self) -> Tensor:
        largest = self.sigmas.max()
        return largest if self.config.timestep_spacing in ("linspace", "trailing") else (largest**2 + 1).sqrt()

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        """Back to the scale the network was trained on: x / √(σ² + 1)."""
        return sample / (self.sigmas[self.index_at(timestep)] ** 2 + 1).sqrt()

    def predict_x0(self, model_output: Tensor, timestep: Tensor | float, sample: Tensor) -> Tensor:
        return x0_at(self.config.prediction_type, model_output, sample, self.sigmas[self.index_at(timestep)])

    def predict_epsilon(self, model_output: Tensor, timestep: Tensor | float, sample: Tensor) -> Tensor:
        x0 = self.predict_x0(model_output, timestep, sample)
        return (sample - x0) / self.sigmas[self.index_at(timestep)]


def x0_at(prediction_type: str, model_output: Tensor, sample: Tensor, sigma: Tensor) -> Tensor:
    """x₀ of a sample x₀ + σ·ε."""
    alpha = 1 / (sigma**2 + 1).sqrt()
    if prediction_type == "epsilon":  # the same as below, without dividing by a small alpha
        return sample - sigma * model_output
    return to_x0(prediction_type, model_output, sample * alpha, alpha, sigma * alpha)
