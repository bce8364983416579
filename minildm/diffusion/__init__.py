"""The mathematics of diffusion: noise schedules, and denoisers that are known in closed form."""

from minildm.diffusion.ideal import Denoiser, GaussianDenoiser, IdealDenoiser, KnowsItsNoise
from minildm.diffusion.schedules import (
    BETA_SCHEDULES,
    alphas_cumprod,
    cosine_betas,
    linear_betas,
    log_snr,
    make_betas,
    rescale_zero_terminal_snr,
    shift_resolution,
    snr,
)

__all__ = [
    "BETA_SCHEDULES",
    "Denoiser",
    "GaussianDenoiser",
    "IdealDenoiser",
    "KnowsItsNoise",
    "alphas_cumprod",
    "cosine_betas",
    "linear_betas",
    "log_snr",
    "make_betas",
    "rescale_zero_terminal_snr",
    "shift_resolution",
    "snr",
]
