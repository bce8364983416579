"""Samplers that count in sigmas, x/√ᾱ = x₀ + σ·ε with σ = √((1 - ᾱ)/ᾱ), and solve dx/dσ = ε (Karras
et al. 2022); in flow matching x = (1 - σ)·x₀ + σ·ε. Chapter 05."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from minildm.diffusion.parameterization import (
    noised,
    straight,
    to_epsilon,
    to_x0,
    variance_preserving,
)
from minildm.precision import at_least_float32
from minildm.schedulers.base import Scheduler, check_noise, shaped
from minildm.schedulers.timesteps import as_number, check_range


def karras_sigmas(first: float, last: float, count: int, rho: float = 7.0) -> np.ndarray:
    """σ^(1/ρ) falls in equal steps, so σ in shorter ones where there is less noise. (count,).

    Karras et al. 2022, eq. 5.
    """
    return np.linspace(first ** (1 / rho), last ** (1 / rho), count) ** rho


def exponential_sigmas(first: float, last: float, count: int) -> np.ndarray:
    """log σ falls in equal steps; the limit of `karras_sigmas` for a large ρ. (count,)."""
    return np.exp(np.linspace(np.log(first), np.log(last), count))


def shift_sigmas(sigmas: np.ndarray, shift: float) -> np.ndarray:
    """Flow matching's σ in [0, 1], moved towards the noise by a shift above 1. Any shape.

    Esser et al. 2024, eq. 23.
    """
    return shift * sigmas / (1 + (shift - 1) * sigmas)


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

    def check_timesteps(self, timesteps: Sequence[float] | Tensor) -> np.ndarray:
        for rule in ("karras", "exponential", "flow"):
            key = f"use_{rule}_sigmas"
            if key in self.arguments() and self.config[key]:
                raise ValueError(f"expected timesteps or {key}, got both")
        return super().check_timesteps(timesteps)

    def sigmas_at(self, timesteps: np.ndarray) -> np.ndarray:
        """The sigmas of timesteps, which may lie between two, by linear interpolation."""
        sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().cpu().numpy()
        return np.interp(timesteps, np.arange(len(sigmas)), sigmas)

    def timesteps_at(self, sigmas: np.ndarray) -> np.ndarray:
        """The timesteps, mostly between two, of these sigmas, by linear interpolation of log σ."""
        table = (
            ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().log().cpu().double().numpy()
        )
        return np.interp(np.log(sigmas), table, np.arange(len(table)))

    def space_sigmas(
        self, timesteps: np.ndarray, first: float, last: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Timesteps to visit and their sigmas: those given, or as many sigmas as steps were asked
        for from `first` to `last`, by the rule that the configuration names."""
        config, count = self.config, len(timesteps)
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
        """Visit these, then the end, with no noise or ("sigma_min") as much as at timestep 0."""
        asked = "final_sigmas_type" in self.arguments()  # the others at most carry it
        ends_early = asked and self.config.final_sigmas_type == "sigma_min"
        final = self.sigmas_at(np.zeros(1))[0] if ends_early else 0.0
        self.sigmas = torch.as_tensor(np.append(sigmas, final).astype(np.float32))
        self.timesteps = torch.as_tensor(timesteps).to(device)
        self.index = None

    def set_begin_index(self, begin_index: int = 0) -> None:
        self.index = begin_index

    def index_at(self, timestep: Tensor | float) -> int:
        """Where in the table we are: at first looked up by the timestep, then counted by `step`."""
        self.require_timesteps()
        t = as_number(timestep)
        if self.index is not None:
            if self.index == len(self.timesteps):
                taken = f"all {self.index} steps are taken"
                raise ValueError(f"expected set_timesteps before another drawing: {taken}")
            if t != float(self.timesteps[self.index]):
                expected = float(self.timesteps[self.index])
                raise ValueError(f"expected timestep {expected:g}, which comes next, got {t:g}")
            return self.index
        place = self.place_of(t)
        if place is None:
            raise ValueError(f"expected one of the timesteps {self.timesteps.tolist()}, got {t:g}")
        return place

    def place_of(self, timestep: float) -> int | None:
        """Where it stands among the timesteps to visit, if it does."""
        own = self.timesteps.tolist()
        places = [place for place, each in enumerate(own) if each == timestep]
        if self.index in places:  # the step that comes next
            return self.index
        # Of equal ones the first if the loop begins there, else the second: Heun visits all but the
        # first one twice.
        return places[min(places[0], 1, len(places) - 1)] if places else None

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x on the scale that `step` works on; at the timesteps to visit by their own sigmas, which
        a rule may have spaced, at others by those of training. Shapes as in training."""
        check_noise(original_samples, noise, timesteps)
        each = torch.as_tensor(timesteps).flatten()
        alpha, sigma = self.alpha_sigma(each, torch.empty(0, device="cpu"))
        sigmas = (sigma if self.prediction_type == "flow_prediction" else sigma / alpha).tolist()
        for i, timestep in enumerate(each.tolist()):
            place = self.place_of(timestep)
            if place is not None:
                sigmas[i] = float(self.sigmas[place])
        scales = self.step_scales(shaped(torch.tensor(sigmas), original_samples))
        return noised(original_samples, noise, *scales)

    def step_scales(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ of x = α·x₀ + σ·ε as `step` works on it, where the table has `sigma`."""
        return self.alpha_sigma_of(sigma)

    def alpha_sigma_of(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ of x = α·x₀ + σ·ε where the table has `sigma`."""
        flow = self.prediction_type == "flow_prediction"
        return straight(sigma) if flow else variance_preserving(sigma)

    def alpha_sigma(self, timesteps: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ of x_t in training, shaped to multiply `like` (B, ...). Timesteps may be
        fractions; in flow matching σ = t/T, from 0 to T."""
        timesteps, most = torch.as_tensor(timesteps), self.config.num_train_timesteps
        if self.prediction_type == "flow_prediction":
            check_range(timesteps, most)
            return self.alpha_sigma_of(shaped(timesteps, like) / most)
        if (timesteps == timesteps.long()).all():
            return super().alpha_sigma(timesteps, like)
        check_range(timesteps, most - 1)
        sigmas = torch.as_tensor(self.sigmas_at(timesteps.cpu().numpy()))
        return self.alpha_sigma_of(shaped(sigmas, like))

    def alpha_sigma_at(self, timestep: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]:
        return self.step_scales(self.sigmas[self.index_at(timestep)])


class VarianceExplodingScheduler(SigmaScheduler):
    """One whose `step` works on x₀ + σ·ε, which is up to hundreds of times larger than what the
    network was trained on (Song et al. 2021, section 3.4)."""

    kind_of_timesteps = float

    def prepare(self) -> None:
        super().prepare()
        most = self.num_inference_steps = self.config.num_train_timesteps  # until told otherwise
        self.visit(np.arange(most)[::-1], None)

    def step_scales(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(sigma), sigma

    @property
    def init_noise_sigma(self) -> Tensor:
        largest = self.sigmas.max()
        if self.config.timestep_spacing in ("linspace", "trailing"):
            return largest
        return (largest**2 + 1).sqrt()

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float) -> Tensor:
        """Back to the scale the network was trained on: x / √(σ² + 1)."""
        size = (self.sigmas[self.index_at(timestep)] ** 2 + 1).sqrt()
        return (at_least_float32(sample) / size).to(sample.dtype)

    def predict_x0(self, model_output: Tensor, timestep: Tensor | float, sample: Tensor) -> Tensor:
        if self.prediction_type == "epsilon":  # true on any scale; here nothing small divides
            return super().predict_x0(model_output, timestep, sample)
        alpha, sigma = self.alpha_sigma_of(self.sigmas[self.index_at(timestep)])
        xt = at_least_float32(sample) * alpha
        return to_x0(self.prediction_type, model_output, xt, alpha, sigma).to(sample.dtype)

    def predict_epsilon(
        self, model_output: Tensor, timestep: Tensor | float, sample: Tensor
    ) -> Tensor:
        alpha, sigma = self.alpha_sigma_of(self.sigmas[self.index_at(timestep)])
        xt = at_least_float32(sample) * alpha
        return to_epsilon(self.prediction_type, model_output, xt, alpha, sigma).to(sample.dtype)
