"""The mathematics of diffusion: noise schedules, what a network can be asked to say, denoisers that
are known in closed form, guidance and the sampling loop."""

from minildm.diffusion.guidance import guide, predict_guided, summed_scales
from minildm.diffusion.ideal import Denoiser, GaussianDenoiser, IdealDenoiser, KnowsItsNoise
from minildm.diffusion.parameterization import (
    PARAMETERIZATIONS,
    Parameterization,
    noised,
    straight,
    to_epsilon,
    to_x0,
    training_target,
    variance_preserving,
)
from minildm.diffusion.sampling import (
    Callback,
    Constrain,
    Predict,
    SamplingScheduler,
    sample,
)
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
    "Callback",
    "Constrain",
    "Denoiser",
    "GaussianDenoiser",
    "IdealDenoiser",
    "KnowsItsNoise",
    "PARAMETERIZATIONS",
    "Parameterization",
    "Predict",
    "SamplingScheduler",
    "alphas_cumprod",
    "cosine_betas",
    "guide",
    "linear_betas",
    "log_snr",
    "make_betas",
    "noised",
    "predict_guided",
    "rescale_zero_terminal_snr",
    "sample",
    "shift_resolution",
    "snr",
    "straight",
    "summed_scales",
    "to_epsilon",
    "to_x0",
    "training_target",
    "variance_preserving",
]
