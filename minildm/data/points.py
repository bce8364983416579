"""Points in the plane: diffusion without pictures. Chapter 03.

Every set has its mean at the origin and a variance of 1 in each direction, or nearly so.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def spiral(count: int, generator: torch.Generator | None = None) -> Tensor:
    """A spiral of one and a half turns, a little frayed. (count, 2)."""
    radius = torch.rand(count, generator=generator).sqrt()
    angle = 3 * math.pi * radius
    points = 2 * radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1) - torch.tensor(
        [-0.09, 0.41]
    )
    return points + 0.05 * torch.randn(count, 2, generator=generator)


def moons(count: int, generator: torch.Generator | None = None) -> Tensor:
    """Two half circles that reach into each other. (count, 2)."""
    angle = math.pi * torch.rand(count, generator=generator)
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    points = torch.where(torch.rand(count, 1, generator=generator) < 0.5, upper, -upper)
    return points * torch.tensor([1.15, 2.0]) + 0.1 * torch.randn(count, 2, generator=generator)


def checkerboard(count: int, generator: torch.Generator | None = None) -> Tensor:
    """The dark squares of a board of 4 x 4. (count, 2)."""
    squares = torch.randint(8, (count,), generator=generator)
    row = squares // 2
    column = 2 * (squares % 2) + row % 2
    points = torch.stack([column, row], dim=1) + torch.rand(count, 2, generator=generator)
    return (points - 2) * 3**0.5 / 2


TOYS = {"spiral": spiral, "moons": moons, "checkerboard": checkerboard}


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2·E‖A - B‖ - E‖A - A'‖ - E‖B - B'‖ of points (N, D) and (M, D): 0 on average for one
    distribution, above for two.

    Székely & Rizzo 2013, eq. 1.1; unbiased, so that it may fall below 0 by chance. N, M > 1.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            "expected points (N, D) and (M, D), two or more, "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )

    def total(x: Tensor, y: Tensor) -> float:
        return float(torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").sum())

    def mean_of_others(x: Tensor) -> float:
        return total(x, x) / (len(x) * (len(x) - 1))

    between = total(a, b) / (len(a) * len(b))
    return 2 * between - mean_of_others(a) - mean_of_others(b)
