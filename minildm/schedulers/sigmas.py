"""Samplers that count in sigmas: x/√ᾱ = x₀ + σ·ε with σ = √((1 - ᾱ)/ᾱ), and solve dx/dσ = ε (Karras
et al. 2022). Chapter 05."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minildm.schedulers.base import Scheduler, to_x0


def karras_sigmas(first: float, last: float, count: int, rho: float = 7.0) -> np.ndarray:
    """σ^(1/ρ) falls in equal steps: short ones where there is little noise; Karras et al. 2022, eq.
    5. (count,)."""
    return np.linspace(first ** (1 / rho), last ** (1 / rho), count) ** rho


def exponential_sigmas(first: float, last: float, count: int) -> np.ndarray:
    """log σ falls in equal steps; the limit of `karras_sigmas` for a large ρ. (count,)."""
    return np.exp(np.linspace(np.log(first), np.log(last), count))


class SigmaScheduler(Scheduler):
    """A scheduler with a table of `sigmas`, one for every timestep to visit and one for the end.

    use_karras_sigmas, use_exponential_sigmas: space the sigmas by such a rule, and not the
    timesteps, which may then be fractions.
    """

    def prepare(self) -> None:
        super().prepare()
        if self.config.get("use_karras_sigmas") and self.config.get("use_exponential_sigmas"):
            raise ValueError("expected use_karras_sigmas or use_exponential_sigmas, got both")
        if self.config.get("rescale_betas_zero_snr"):
            self.alphas_cumprod[-1] = 2**-24  # not quite 0, so that the first sigma is not infinite
        self.sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().flip(0)
        self.index: int | None = None

    def sigmas_at(self, timesteps: np.ndarray) -> np.ndarray:
        """The sigmas of timesteps, which may lie between two, by linear interpolation."""
        sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().cpu().numpy()
        return np.interp(timesteps, np.arange(len(sigmas)), sigmas)

    def timesteps_at(self, sigmas: np.ndarray) -> np.ndarray:
        """The timesteps, mostly between two, that have these sigmas, by linear interpolation of the
        logarithm."""
        table = (
            ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().log().cpu().double().numpy()
        )
        return np.interp(np.log(sigmas), table, np.arange(len(table)))

    def respaced(
        self, timesteps: np.ndarray, first: float, last: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Timesteps to visit and their sigmas: those given, or as many sigmas as steps were asked
        for from `first` to `last`, by the rule that the configuration names."""
        config, count = self.config, self.require_timesteps()
        if config.use_karras_sigmas:
            sigmas = karras_sigmas(first, last, count)
        elif config.use_exponential_sigmas:
            sigmas = exponential_sigmas(first, last, count)
        else:
            return timesteps, self.sigmas_at(timesteps)
        return self.timesteps_at(sigmas), sigmas

    def set_sigmas(
        self, timesteps: np.ndarray, sigmas: np.ndarray, device: torch.device | str | None
    ) -> None:
        """Visit these; the end has no noise, or with final_sigmas_type "sigma_min" that of timestep
        0."""
        final = (
            self.sigmas_at(np.zeros(1))[0]
            if self.config.get("final_sigmas_type") == "sigma_min"
            else 0.0
        )
        self.sigmas = torch.as_tensor(np.append(sigmas, final).astype(np.float32))
        self.timesteps = torch.as_tensor(timesteps).to(device)
        self.index = None

    def set_begin_index(self, begin_index: int = 0) -> None:
        self.index = begin_index

    def index_at(self, timestep: Tensor | float) -> int:
        """Where in the table we are: at first looked up by the timestep, then counted by `step`."""
        self.require_timesteps()
        if self.index is not None:
            if self.index == len(self.timesteps):
                raise ValueError(
                    f"expected set_timesteps before another drawing: all {self.index} steps are taken"
                )
            if float(timestep) != float(self.timesteps[self.index]):
                expected = float(self.timesteps[self.index])
                raise ValueError(
                    f"expected timestep {expected:g}, which comes next, got {float(timestep):g}"
                )
            return self.index
        places = (
            (self.timesteps.cpu() == torch.as_tensor(timestep).cpu()).nonzero().flatten().tolist()
        )
        if not places:
            raise ValueError(
                f"expected one of the timesteps {self.timesteps.tolist()}, got {float(timestep):g}"
            )
        # Of equal ones the first if the loop begins there, else the second: Heun visits all but the
        # first one twice.
        return places[0] if places[0] == 0 else places[min(1, len(places) - 1)]

    def add_noise_at(self, x0: Tensor, noise: Tensor, timestep: Tensor | float) -> Tensor:
        return x0 + self.sigmas[self.index_at(timestep)] * noise

    @property
    def init_noise_sigma(self) -> Tensor:
        largest = self.sigmas.max()
        return (
            largest
            if self.config.timestep_spacing in ("linspace", "trailing")
            else (largest**2 + 1).sqrt()
        )

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        """Back to the scale the network was trained on: x / √(σ² + 1)."""
        return sample / (self.sigmas[self.index_at(timestep)] ** 2 + 1).sqrt()

    def predict_x0(self, model_output: Tensor, timestep: Tensor | float, sample: Tensor) -> Tensor:
        return x0_at(
            self.config.prediction_type, model_output, sample, self.sigmas[self.index_at(timestep)]
        )

    def predict_epsilon(
        self, model_output: Tensor, timestep: Tensor | float, sample: Tensor
    ) -> Tensor:
        x0 = self.predict_x0(model_output, timestep, sample)
        return (sample - x0) / self.sigmas[self.index_at(timestep)]


def x0_at(prediction_type: str, model_output: Tensor, sample: Tensor, sigma: Tensor) -> Tensor:
    """x₀ of a sample x₀ + σ·ε."""
    alpha = 1 / (sigma**2 + 1).sqrt()
    if prediction_type == "epsilon":  # the same as below, without dividing by a small alpha
        return sample - sigma * model_output
    return to_x0(prediction_type, model_output, sample * alpha, alpha, sigma * alpha)
