"""DPM-Solver++, the ODE of diffusion solved where it is nearly straight (Lu et al. 2022).
Chapter 05."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minildm.configuration.mixins import register_to_config
from minildm.schedulers.base import checked_output
from minildm.schedulers.sigmas import SigmaScheduler, shift_sigmas


def log_snr_half(alpha: Tensor, sigma: Tensor) -> Tensor:
    """λ = log(α/σ), the time in which the ODE is nearly straight; +inf where there is no noise."""
    return alpha.log() - sigma.log()


def dpm_step(
    sample: Tensor,
    x0: Tensor,
    now: tuple[Tensor, Tensor],
    to: tuple[Tensor, Tensor],
    slope: Tensor | float = 0.0,
) -> Tensor:
    """From x at `now` = (α, σ) to x at `to`; first order (DDIM) without a slope, Lu et al. 2022,
    eq. 17; second order with `slope`, how much x₀ changes over this step, algorithm 2."""
    h = log_snr_half(*to) - log_snr_half(*now)
    return to[1] / now[1] * sample - to[0] * torch.expm1(-h) * (x0 + slope / 2)


class DPMSolverMultistepScheduler(SigmaScheduler):
    """Second order for one call of the network a step: it remembers the step before's x₀ ("2M").

    With `use_flow_sigmas` and "flow_prediction" it samples models trained by flow matching,
    x_t = (1 - σ)·x₀ + σ·ε, whose network predicts ε - x₀.
    """

    prediction_types = ("epsilon", "sample", "v_prediction", "flow_prediction")
    unsupported = {
        "thresholding": False,
        "dynamic_thresholding_ratio": ...,
        "sample_max_value": ...,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "use_beta_sigmas": (False, None),
        "use_lu_lambdas": (False, None),
        "lambda_min_clipped": (-float("inf"), "-Infinity"),
        # of samplers that draw from a posterior
        "variance_type": (None, "fixed_small", "fixed_large"),
        "use_dynamic_shifting": False,
        "time_shift_type": "exponential",
    }

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: tuple[float, ...] | None = None,
        solver_order: int = 2,
        prediction_type: str = "epsilon",
        *,
        lower_order_final: bool = True,
        euler_at_final: bool = False,
        use_karras_sigmas: bool | None = False,
        use_exponential_sigmas: bool | None = False,
        use_flow_sigmas: bool = False,
        flow_shift: float = 1.0,
        final_sigmas_type: str = "zero",
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
    ):
        if solver_order not in (1, 2):
            raise ValueError(f"expected a solver_order of 1 or 2, got {solver_order}")
        if (prediction_type == "flow_prediction") != use_flow_sigmas:
            got = f"{use_flow_sigmas} and {prediction_type!r}"
            raise ValueError(f"expected use_flow_sigmas and flow_prediction together, got {got}")
        if use_flow_sigmas and (use_karras_sigmas or use_exponential_sigmas):
            raise ValueError(
                "expected use_flow_sigmas or one of the two other spacings of sigmas, got both"
            )
        self.prepare()

    def visit(self, timesteps: np.ndarray, device: torch.device | str | None) -> None:
        most = self.config.num_train_timesteps
        if self.config.use_flow_sigmas:
            rising = 1 - np.linspace(1, 1 / most, len(timesteps) + 1)
            sigmas = shift_sigmas(rising, self.config.flow_shift)[:0:-1]
            timesteps = sigmas * most
        else:
            timesteps, sigmas = self.space_sigmas(
                timesteps.round(), *self.sigmas_at(np.array([most - 1, 0]))
            )
            if self.config.use_karras_sigmas and self.config.beta_schedule != "squaredcos_cap_v2":
                timesteps = timesteps.round()  # the others are cut off, as in diffusers
        self.set_sigmas(timesteps.astype(np.int64), sigmas, device)
        self.x0_before: Tensor | None = None

    def spaced_timesteps(self, count: int) -> np.ndarray:
        """As in the other schedulers, but with one more for the end, which is then left out; but
        for all of them."""
        if self.config.timestep_spacing == "trailing" or count == self.most_steps:
            return super().spaced_timesteps(count)
        return super().spaced_timesteps(count + 1)[:-1]

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
        now = self.alpha_sigma_of(self.sigmas[i])
        to = self.alpha_sigma_of(self.sigmas[i + 1])
        slope: Tensor | float = 0.0
        if (
            self.config.solver_order == 2
            and self.x0_before is not None
            and not self.ends_at_first_order(i)
        ):
            before = log_snr_half(*self.alpha_sigma_of(self.sigmas[i - 1]))
            ratio = (log_snr_half(*to) - log_snr_half(*now)) / (log_snr_half(*now) - before)
            slope = ratio * (x0 - self.x0_before)
        self.x0_before, self.index = x0, i + 1
        return dpm_step(x, x0, now, to, slope).to(sample.dtype)

    def ends_at_first_order(self, index: int) -> bool:
        """No second order for the last step where it ends at σ = 0, for λ is infinite there, or
        where steps are few."""
        config = self.config
        few = config.lower_order_final and len(self.timesteps) < 15
        last = index == len(self.timesteps) - 1
        return last and (config.euler_at_final or few or config.final_sigmas_type == "zero")
