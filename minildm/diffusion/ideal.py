"""Denoisers that need no training, for data whose distribution is known: a Gaussian, or a finite
set of points (Karras et al. 2022, appendix B.3). Chapters 03 and 05.

A denoiser answers one question, what clean x₀ to expect behind a noisy x_t = α·x₀ + σ·ε, where
α = √ᾱ_t and σ² = 1 - ᾱ_t; everything else follows from the answer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from minildm.diffusion.parameterization import to_epsilon, training_target
from minildm.precision import at_least_float32

CHUNK = 2**23  # distances held at once, so that many points cost time, not memory


class KnowsItsNoise(Protocol):
    """What of a scheduler says how noisy x_t is, and in what form a model is to answer."""

    @property
    def prediction_type(self) -> str: ...

    def alpha_sigma(self, timesteps: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]: ...


class Denoiser(ABC):
    """E[x₀ | x_t], and the same as noise, as velocity and as score.

    In all methods xt is (B, …) and alphas_cumprod, ᾱ_t, is one number in [0, 1) or (B,); the result
    has xt's shape and type.
    """

    @abstractmethod
    def predict_x0(self, xt: Tensor, alphas_cumprod: Tensor | float) -> Tensor:
        """E[x₀ | x_t], the mean of all x₀ that can have led to x_t, each weighted by how likely it
        is."""

    @abstractmethod
    def log_density(self, xt: Tensor, alphas_cumprod: Tensor | float) -> Tensor:
        """log p(x_t), the density of noisy data, for each sample: (B,)."""

    def predict_epsilon(self, xt: Tensor, alphas_cumprod: Tensor | float) -> Tensor:
        """E[ε | x_t] = (x_t - α·E[x₀ | x_t]) / σ."""
        alpha_prod_t = per_sample(alphas_cumprod, xt)
        alpha, sigma = alpha_prod_t.sqrt(), (1 - alpha_prod_t).sqrt()
        x = at_least_float32(xt)
        x0 = self.predict_x0(x, alphas_cumprod)
        return to_epsilon("sample", x0, x, alpha, sigma).to(xt.dtype)

    def predict_v(self, xt: Tensor, alphas_cumprod: Tensor | float) -> Tensor:
        """E[v | x_t] = α·E[ε | x_t] - σ·E[x₀ | x_t]."""
        alpha_prod_t = per_sample(alphas_cumprod, xt)
        alpha, sigma = alpha_prod_t.sqrt(), (1 - alpha_prod_t).sqrt()
        return self.predict("v_prediction", xt, alpha, sigma)

    def predict(self, prediction_type: str, xt: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What a network trained to the end would say of x_t = α·x₀ + σ·ε, for any α and σ, shaped
        to multiply it; flow matching's are not of a ᾱ_t."""
        size = (alpha**2 + sigma**2).sqrt()
        dimmed, alpha_prod_t = at_least_float32(xt) / size, (alpha / size) ** 2
        x0 = self.predict_x0(dimmed, alpha_prod_t)
        epsilon = self.predict_epsilon(dimmed, alpha_prod_t)
        return training_target(prediction_type, x0, epsilon, alpha, sigma).to(xt.dtype)

    def score(self, xt: Tensor, alphas_cumprod: Tensor | float) -> Tensor:
        """∇ log p(x_t) = -E[ε | x_t] / σ, the direction in which noisy data grow denser (Tweedie's
        formula)."""
        alpha_prod_t, x = per_sample(alphas_cumprod, xt), at_least_float32(xt)
        mean = alpha_prod_t.sqrt() * self.predict_x0(x, alphas_cumprod)
        return ((mean - x) / (1 - alpha_prod_t)).to(xt.dtype)

    def as_model(self, scheduler: KnowsItsNoise) -> Callable[[Tensor, Tensor | float], Tensor]:
        """A function of sample and timestep that answers in the scheduler's prediction_type, as a
        network would."""

        def model(sample: Tensor, timestep: Tensor | float) -> Tensor:
            alpha, sigma = scheduler.alpha_sigma(timestep, sample)
            return self.predict(scheduler.prediction_type, sample, alpha, sigma)

        return model


class GaussianDenoiser(Denoiser):
    """The denoiser of data from one Gaussian, in closed form, with everything else that can be
    known of it.

    mean: one sample's shape, or anything that broadcasts with it. Either variance: the same, for
    components that are independent; or covariance: (D, D), for samples (B, D).
    """

    def __init__(
        self,
        mean: Tensor | float,
        variance: Tensor | float | None = None,
        covariance: Tensor | None = None,
    ):
        if (variance is None) == (covariance is None):
            raise ValueError("expected either a variance or a covariance, got both or neither")
        self.mean = _as_tensor(mean)
        self.axes: Tensor | None = None
        if covariance is not None:
            if self.mean.ndim != 1 or covariance.shape != (len(self.mean), len(self.mean)):
                got = f"{tuple(self.mean.shape)} and {tuple(covariance.shape)}"
                raise ValueError(f"expected a mean (D,) and a covariance (D, D), got {got}")
            if not torch.allclose(covariance, covariance.T):
                raise ValueError(
                    "expected a symmetric covariance, got one that differs from its transpose"
                )
            # along these axes the components are independent
            variance, self.axes = torch.linalg.eigh(covariance)
        assert variance is not None  # one of the two was given
        self.variance = _as_tensor(variance)
        if self.variance.min() < 0:
            raise ValueError(f"expected variances of 0 or more, got {float(self.variance.min())}")

    def marginal(self, alphas_cumprod: Tensor | float) -> tuple[Tensor, Tensor]:
        """Mean α·m and variance α²·s² + σ² of x_t; for a covariance, the variances along its
        axes."""
        alpha_prod_t = torch.as_tensor(alphas_cumprod)
        return alpha_prod_t.sqrt() * self.mean, alpha_prod_t * self.variance + 1 - alpha_prod_t

    def posterior(self, xt: Tensor, alphas_cumprod: Tensor | float) -> tuple[Tensor, Tensor]:
        """Mean m + α·s²/(α²·s² + σ²)·(x_t - α·m) of x₀ given x_t, and its variance,
        s²·σ²/(α²·s² + σ²), as above."""
        alpha_prod_t = per_sample(alphas_cumprod, xt)
        mean, variance = self.marginal(alpha_prod_t)
        gain = alpha_prod_t.sqrt() * self.variance / variance
        left = self.variance * (1 - alpha_prod_t) / variance
        off = at_least_float32(xt) - mean
        return (self.mean + self._along_axes(off, gain)).to(xt.dtype), left

    def predict_x0(self, xt: Tensor, alphas_cumprod: Tensor | float) -> Tensor:
        return self.posterior(xt, alphas_cumprod)[0]

    def predict_epsilon(self, xt: Tensor, alphas_cumprod: Tensor | float) -> Tensor:
        sigma = (1 - per_sample(alphas_cumprod, xt)).sqrt()
        return (-sigma * self.score(at_least_float32(xt), alphas_cumprod)).to(xt.dtype)

    def score(self, xt: Tensor, alphas_cumprod: Tensor | float) -> Tensor:
        """∇ log p(x_t) = -(x_t - α·m) / (α²·s² + σ²)."""
        mean, variance = self.marginal(per_sample(alphas_cumprod, xt))
        return -self._along_axes(at_least_float32(xt) - mean, 1 / variance).to(xt.dtype)

    def log_density(self, xt: Tensor, alphas_cumprod: Tensor | float) -> Tensor:
        mean, variance = self.marginal(per_sample(alphas_cumprod, xt))
        off = at_least_float32(xt) - mean
        off = off if self.axes is None else off @ self.axes
        return (
            (-0.5 * (off.square() / variance + torch.log(2 * math.pi * variance))).flatten(1).sum(1)
        )

    def ode_solution(
        self, xt: Tensor, from_alphas_cumprod: Tensor | float, to_alphas_cumprod: Tensor | float
    ) -> Tensor:
        """Where the probability-flow ODE (Song et al. 2021, eq. 13) leads x_t.

        x_s = α_s·m + √(v_s/v_t)·(x_t - α_t·m), where v is the marginal's variance: each sample
        keeps its place, counted in standard deviations from the mean.
        """
        mean, variance = self.marginal(per_sample(from_alphas_cumprod, xt, most=1))
        new_mean, new_variance = self.marginal(per_sample(to_alphas_cumprod, xt, most=1))
        off = at_least_float32(xt) - mean
        moved = new_mean + self._along_axes(off, (new_variance / variance).sqrt())
        return moved.to(xt.dtype)

    def _along_axes(self, x: Tensor, factor: Tensor) -> Tensor:
        """x, stretched along the covariance's axes."""
        return x * factor if self.axes is None else (x @ self.axes * factor) @ self.axes.T


class IdealDenoiser(Denoiser):
    """The denoiser of a finite data set: the mean of its points, each weighted by how likely it led
    to x_t; Karras et al. 2022, eq. 57. Computed in float64: at little noise the weights hang on
    small differences of large distances.

    points: (N, …). variance: each point may be the centre of a small Gaussian instead, which makes
    the data a mixture of Gaussians; 0 is the data set itself.
    """

    def __init__(self, points: Tensor, variance: float = 0.0):
        if points.ndim < 2 or not len(points):
            raise ValueError(f"expected points (N, …), at least one, got {tuple(points.shape)}")
        if not variance >= 0:
            raise ValueError(f"expected a variance of 0 or more, got {variance}")
        self.points, self.variance = points, float(variance)
        self._flat = points.flatten(1).double()
        self._norms = self._flat.square().sum(1)

    def weights(self, xt: Tensor, alphas_cumprod: Tensor | float) -> Tensor:
        """How likely each point led to x_t: softmax of -‖x_t - α·x_i‖² / 2(σ² + α²·variance).

        (B, N), every row sums to 1.
        """
        weights = [logits.softmax(1) for logits, _ in self._chunks(xt, alphas_cumprod)]
        return torch.cat(weights).to(xt.dtype)

    def predict_x0(self, xt: Tensor, alphas_cumprod: Tensor | float) -> Tensor:
        means = [logits.softmax(1) @ self._flat for logits, _ in self._chunks(xt, alphas_cumprod)]
        mean = torch.cat(means).reshape(xt.shape)
        alpha_prod_t = per_sample(alphas_cumprod, xt).double()
        gain = (
            alpha_prod_t.sqrt() * self.variance / (alpha_prod_t * self.variance + 1 - alpha_prod_t)
        )
        return (mean + gain * (xt - alpha_prod_t.sqrt() * mean)).to(xt.dtype)

    def log_density(self, xt: Tensor, alphas_cumprod: Tensor | float) -> Tensor:
        count, size = self._flat.shape
        logs = [
            logits.logsumexp(1)
            - math.log(count)
            - 0.5 * size * torch.log(2 * math.pi * variance[:, 0])
            for logits, variance in self._chunks(xt, alphas_cumprod)
        ]
        return torch.cat(logs).to(at_least_float32(xt).dtype)

    def _chunks(
        self, xt: Tensor, alphas_cumprod: Tensor | float
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """For some rows of x_t at a time -‖x_t - α·x_i‖² / 2v and v = σ² + α²·variance.

        (b, N) and (b, 1), float64.
        """
        if xt.shape[1:] != self.points.shape[1:]:
            expected = ", ".join(map(str, self.points.shape[1:]))
            raise ValueError(f"expected samples (B, {expected}), got {tuple(xt.shape)}")
        x = xt.flatten(1).double()
        alpha_prod_t = per_sample(alphas_cumprod, x).expand(len(x), 1)
        variance = alpha_prod_t * self.variance + 1 - alpha_prod_t
        rows = max(1, CHUNK // len(self.points))
        for some, left, v in zip(
            x.split(rows), alpha_prod_t.split(rows), variance.split(rows), strict=True
        ):
            squares = some.square().sum(1, keepdim=True) + left * self._norms
            yield (left.sqrt() * (some @ self._flat.T) - 0.5 * squares) / v, v


def per_sample(alphas_cumprod: Tensor | float, xt: Tensor, most: float | None = None) -> Tensor:
    """ᾱ shaped to multiply xt (B, …), in float32 or more: () or (B, 1, …)."""
    dtype = torch.promote_types(xt.dtype, torch.float32)
    alpha_prod_t = torch.as_tensor(alphas_cumprod, dtype=dtype, device=xt.device)
    allowed = alpha_prod_t <= 1 if most == 1 else alpha_prod_t < 1
    if not ((alpha_prod_t >= 0) & allowed).all():
        end = "]" if most == 1 else ")"
        raise ValueError(f"expected alphas_cumprod in [0, 1{end}, got {alpha_prod_t.tolist()}")
    return alpha_prod_t.reshape(-1, *[1] * (xt.ndim - 1)) if alpha_prod_t.ndim else alpha_prod_t


def _as_tensor(value: Tensor | float) -> Tensor:
    """A Python number keeps all its digits; a tensor its type."""
    return value if torch.is_tensor(value) else torch.tensor(value, dtype=torch.float64)
