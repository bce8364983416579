"""What a network can be asked to say of x_t = α·x₀ + σ·ε: the noise, the picture, or a velocity, of
which each gives the others (Salimans & Ho 2022, section 4; Lipman et al. 2023). Chapter 05.

Which α and σ belong together is the path from data to noise: α² + σ² = 1 where it preserves the
variance, as in DDPM; α + σ = 1 in flow matching.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from minildm.precision import at_least_float32


class Parameterization(NamedTuple):
    """One way to say it; α and σ are shaped to multiply the other two, which are (B, ...)."""

    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """x₀, ε, α, σ -> what the network is trained to say."""
    to_x0: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """What it said, x_t, α, σ -> x₀."""
    to_epsilon: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """What it said, x_t, α, σ -> ε."""


PARAMETERIZATIONS = {
    "epsilon": Parameterization(
        target=lambda x0, noise, alpha, sigma: noise,
        to_x0=lambda output, xt, alpha, sigma: (xt - sigma * output) / alpha,
        to_epsilon=lambda output, xt, alpha, sigma: output,
    ),
    "sample": Parameterization(
        target=lambda x0, noise, alpha, sigma: x0,
        to_x0=lambda output, xt, alpha, sigma: output,
        to_epsilon=lambda output, xt, alpha, sigma: (xt - alpha * output) / sigma,
    ),
    "v_prediction": Parameterization(  # where α² + σ² = 1
        target=lambda x0, noise, alpha, sigma: alpha * noise - sigma * x0,
        to_x0=lambda output, xt, alpha, sigma: alpha * xt - sigma * output,
        to_epsilon=lambda output, xt, alpha, sigma: alpha * output + sigma * xt,
    ),
    "flow_prediction": Parameterization(  # where α + σ = 1
        target=lambda x0, noise, alpha, sigma: noise - x0,
        to_x0=lambda output, xt, alpha, sigma: xt - sigma * output,
        to_epsilon=lambda output, xt, alpha, sigma: xt + alpha * output,
    ),
}
"""By the names that diffusers' `prediction_type` has."""


def parameterization(prediction_type: str) -> Parameterization:
    """The one of that name."""
    if prediction_type not in PARAMETERIZATIONS:
        names = ", ".join(PARAMETERIZATIONS)
        raise ValueError(f"expected a prediction_type of {names}, got {prediction_type!r}")
    return PARAMETERIZATIONS[prediction_type]


def noised(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_t = α·x₀ + σ·ε."""
    xt = alpha * at_least_float32(x0) + sigma * at_least_float32(noise)
    return xt.to(x0.dtype)


def to_x0(
    prediction_type: str, model_output: Tensor, sample: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """The x₀ that the network's output amounts to; `sample` is x_t."""
    output, xt = at_least_float32(model_output), at_least_float32(sample)
    return parameterization(prediction_type).to_x0(output, xt, alpha, sigma).to(sample.dtype)


def to_epsilon(
    prediction_type: str, model_output: Tensor, sample: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """The noise that the network's output amounts to; `sample` is x_t."""
    output, xt = at_least_float32(model_output), at_least_float32(sample)
    return parameterization(prediction_type).to_epsilon(output, xt, alpha, sigma).to(sample.dtype)


def training_target(
    prediction_type: str, x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """What the network is to say of α·x₀ + σ·ε."""
    clean, epsilon = at_least_float32(x0), at_least_float32(noise)
    return parameterization(prediction_type).target(clean, epsilon, alpha, sigma).to(x0.dtype)


def variance_preserving(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ with α² + σ² = 1 of x₀ + `sigma`·ε, made so small that it has the data's variance."""
    alpha = 1 / (sigma**2 + 1).sqrt()
    return alpha, sigma * alpha


def straight(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ with α + σ = 1: the straight line from data to noise of flow matching."""
    return 1 - sigma, sigma
