"""Denoising diffusion probabilistic models, the Markov chain walked back (Ho et al. 2020).
Chapters 02 and 05."""

from __future__ import annotations

import torch
from torch import Tensor

from minildm.configuration.mixins import register_to_config
from minildm.schedulers.base import Scheduler, checked_output, fresh_noise


def ddpm_posterior(
    x0: Tensor | float, sample: Tensor | float, alpha_prod_t: Tensor, alpha_prod_t_prev: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t, x_0) for s < t, DDPM eq. 6 and 7.

    sample: x_t; alpha_prod_t: ᾱ_t; alpha_prod_t_prev: ᾱ_s. Steps that are left out make one step of
    the chain with a larger β = 1 - ᾱ_t/ᾱ_s.
    """
    alpha = alpha_prod_t / alpha_prod_t_prev
    beta = 1 - alpha
    mean = (
        alpha_prod_t_prev.sqrt() * beta / (1 - alpha_prod_t) * x0
        + alpha.sqrt() * (1 - alpha_prod_t_prev) / (1 - alpha_prod_t) * sample
    )
    return mean, (1 - alpha_prod_t_prev) / (1 - alpha_prod_t) * beta


class DDPMScheduler(Scheduler):
    """A step is a draw from q(x_{t-1} | x_t, x_0), with x_0 as the network predicts it.

    DDPM algorithm 2. variance_type, section 3.2 there: "fixed_small" is the posterior's own
    variance, "fixed_large" is β_t.
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
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: tuple[float, ...] | None = None,
        variance_type: str = "fixed_small",
        clip_sample: bool = True,
        prediction_type: str = "epsilon",
        *,
        clip_sample_range: float = 1.0,
        timestep_spacing: str = "leading",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
    ):
        if variance_type not in ("fixed_small", "fixed_large"):
            raise ValueError(
                f"expected a variance_type of fixed_small, fixed_large, got {variance_type!r}"
            )
        self.prepare()
        self.num_inference_steps = num_train_timesteps  # all, until told otherwise

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        t = self.checked_step(timestep)
        output, x = checked_output(model_output, sample)
        later = self.timesteps[self.timesteps < t]
        alpha_prod_t = self.alphas_cumprod[t]
        alpha_prod_t_prev = self.alphas_cumprod[later[0]] if len(later) else torch.tensor(1.0)
        x0 = self.clip(self.predict_x0(output, t, x))
        mean, variance = ddpm_posterior(x0, x, alpha_prod_t, alpha_prod_t_prev)
        if t == 0:
            return mean.to(sample.dtype)
        if self.config.variance_type == "fixed_large":
            variance = 1 - alpha_prod_t / alpha_prod_t_prev
        noise = fresh_noise(x, generator)
        return (mean + variance.clamp(min=1e-20).sqrt() * noise).to(sample.dtype)
