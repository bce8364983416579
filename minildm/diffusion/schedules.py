"""Noise schedules: how fast the picture drowns (Ho et al. 2020; Nichol & Dhariwal 2021; Lin et al.
2023). Chapter 02.

A schedule is its betas, β_t, the variance of the noise that step t adds. ᾱ_t = Π (1 - β_s), s ≤ t,
is what is left of the picture's variance after t steps: x_t = √ᾱ_t·x₀ + √(1 - ᾱ_t)·ε.
"""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

from minildm.configuration.kinds import LARGEST, is_count


def linear_betas(
    num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Tensor:
    """β grows in equal steps; DDPM, section 4. (T,)."""
    return torch.linspace(beta_start, beta_end, num_train_timesteps)


def scaled_linear_betas(
    num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Tensor:
    """√β grows in equal steps; Stable Diffusion, from 0.00085 to 0.012. (T,)."""
    return torch.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps) ** 2


def cosine_betas(
    num_train_timesteps: int = 1000, beta_start: float = 0.0, beta_end: float = 0.999
) -> Tensor:
    """ᾱ falls like cos², which spends fewer steps on almost pure noise. (T,).

    Nichol & Dhariwal 2021, eq. 17.

    The formula has no free ends: `beta_start` and `beta_end` are there for the other schedules and
    are not used; β is kept to 0.999 at most, as in the paper.
    """

    def alpha_prod(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    T = num_train_timesteps
    return torch.tensor(
        [min(1 - alpha_prod((t + 1) / T) / alpha_prod(t / T), 0.999) for t in range(T)]
    )


def sigmoid_betas(
    num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Tensor:
    """β follows an S from start to end; GeoDiff, Xu et al. 2022. (T,)."""
    return (
        torch.linspace(-6, 6, num_train_timesteps).sigmoid() * (beta_end - beta_start) + beta_start
    )


BETA_SCHEDULES = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "squaredcos_cap_v2": cosine_betas,
    "sigmoid": sigmoid_betas,
}


def make_betas(
    beta_schedule: str,
    num_train_timesteps: int = 1000,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
) -> Tensor:
    """The betas (T,), all in (0, 1), of a schedule by its name in diffusers' configurations."""
    if beta_schedule not in BETA_SCHEDULES:
        raise ValueError(
            f"expected a beta_schedule of {', '.join(BETA_SCHEDULES)}, got {beta_schedule!r}"
        )
    if not is_count(num_train_timesteps) or num_train_timesteps > LARGEST:
        raise ValueError(
            f"expected num_train_timesteps from 1 to {LARGEST}, got {num_train_timesteps!r}"
        )
    if not (isinstance(beta_start, Real) and isinstance(beta_end, Real)):
        raise ValueError(f"expected numbers as betas, got {beta_start!r} and {beta_end!r}")
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(
            f"expected 0 < beta_start <= beta_end < 1, got {beta_start} and {beta_end}"
        )
    return BETA_SCHEDULES[beta_schedule](num_train_timesteps, beta_start, beta_end)


def alphas_cumprod(betas: Tensor) -> Tensor:
    """ᾱ_t = Π_{s≤t} (1 - β_s), falling from nearly 1 to nearly 0. (T,) -> (T,)."""
    return torch.cumprod(1 - betas, dim=0)


def snr(alphas_cumprod: Tensor) -> Tensor:
    """Signal to noise, as variances: ᾱ / (1 - ᾱ); Kingma et al. 2021, eq. 2."""
    return alphas_cumprod / (1 - alphas_cumprod)


def log_snr(alphas_cumprod: Tensor) -> Tensor:
    """log(ᾱ / (1 - ᾱ)), the scale on which schedules are compared; -inf at ᾱ = 0."""
    return torch.logit(alphas_cumprod)


def rescale_zero_terminal_snr(betas: Tensor) -> Tensor:
    """The same schedule, stretched until its last step leaves nothing of the picture.

    √ᾱ is shifted so that its last value is 0 and scaled so that its first stays; Lin et al. 2023,
    algorithm 1. (T,) -> (T,); the last β is 1.
    """
    root = alphas_cumprod(betas).sqrt()
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    alpha_prod_t = root.square()
    return 1 - torch.cat([alpha_prod_t[:1], alpha_prod_t[1:] / alpha_prod_t[:-1]])


def shift_resolution(alphas_cumprod: Tensor, size: int, base_size: int) -> Tensor:
    """ᾱ for pictures of `size` pixels a side, as noisy to the eye as `alphas_cumprod` is for those
    of `base_size`. (T,) -> (T,).

    Neighbouring pixels of a larger picture tell the same, so the same noise per pixel hides less of
    it: log-SNR is lowered by 2·log(size / base_size); Hoogeboom et al. 2023, section 3.1.
    """
    if min(size, base_size) < 1:
        raise ValueError(f"expected sizes of 1 or more, got {size} and {base_size}")
    return torch.sigmoid(log_snr(alphas_cumprod) - 2 * math.log(size / base_size))
