"""One step instead of many: a network learns the average velocity over a stretch of the path, not
the velocity at a point of it (Geng et al. 2025). Chapter 15.

The path is flow matching's straight line, z_t = (1 - t)·x₀ + t·ε with t in [0, 1]. From z_t to z_r,
r < t, lies the *interval* t - r. A step along the average velocity over it ends on the path, however
long it is: z_r = z_t - (t - r)·u. With t = 1 and r = 0, one step draws.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from minildm.diffusion.guidance import predict_guided, unconditional
from minildm.diffusion.parameterization import straight
from minildm.models.embeddings import get_timestep_embedding
from minildm.models.unet import UNet2DConditionModel
from minildm.schedulers.sigmas import SigmaScheduler
from minildm.training.losses import check_pair

AverageVelocity = Callable[..., Tensor]
"""z (B, …), t (B,) and interval (B,) in [0, 1], conditions -> u (B, …)."""
Velocity = Callable[..., Tensor]
"""z (B, …), t (B,) in [0, 1], conditions -> v (B, …), the velocity there."""


def spread(numbers: Tensor, like: Tensor) -> Tensor:
    """One number a sample, (B,) -> (B, 1, …), to be multiplied with `like`, (B, …)."""
    return numbers.reshape(-1, *[1] * (like.ndim - 1))


def mean_flow_target(
    network: AverageVelocity,
    z: Tensor,
    velocity: Tensor,
    t: Tensor,
    interval: Tensor,
    *condition: Tensor,
) -> Tensor:
    """v - (t - r)·du/dt, what the network should say; Geng et al. 2025, eq. 10.

    It is (t - r)·u = ∫ v dτ, from r to t, differentiated by t. Along the path z moves with the
    velocity, and the interval grows with t: du/dt = ∂u/∂z·v + ∂u/∂t + ∂u/∂(t - r), one
    Jacobian-vector product. z, velocity: (B, …); t, interval: (B,). Returns z's shape, without a
    graph: what the network itself says there is not trained.
    """

    def said(z: Tensor, t: Tensor, interval: Tensor) -> Tensor:
        return network(z, t, interval, *condition)

    ones = torch.ones_like(t)
    # the only attention that has a forward derivative
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        _, du_dt = jvp(said, (z, t, interval), (velocity, ones, ones))
    return velocity - spread(interval, z) * du_dt


def two_stretches_target(
    network: AverageVelocity,
    z: Tensor,
    velocity: Tensor,
    t: Tensor,
    interval: Tensor,
    *condition: Tensor,
    short: float = 0.04,
) -> Tensor:
    """The same without a derivative: a stretch is a short one and the rest, and u the mean of their
    velocities.

    Over the first, at most `short` long, `velocity` leads; over the rest, the network itself. As
    `short` goes to 0, this and `mean_flow_target` have one solution; it costs one forward pass.
    """
    first = interval.clamp(max=short)
    with torch.no_grad():
        later = z - spread(first, z) * velocity
        rest = network(later, t - first, interval - first, *condition)
    share = spread(torch.where(interval > 0, first / interval.clamp(min=1e-9), 1.0), z)
    return share * velocity + (1 - share) * rest
