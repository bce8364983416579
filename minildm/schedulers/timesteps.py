"""Which timesteps to visit: evenly spaced ones, or somebody's own (Lin et al. 2023). Chapter 05."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SPACINGS = ("leading", "trailing", "linspace")


def evenly_spaced(
    spacing: str, count: int, num_train_timesteps: int, steps_offset: int = 0
) -> np.ndarray:
    """`count` timesteps, falling; Lin et al. 2023, table 2. "leading" never visits the noisiest
    timestep, "trailing" starts there, "linspace" has both ends."""
    if spacing == "linspace":
        return np.linspace(0, num_train_timesteps - 1, count)[::-1].copy()
    if spacing == "trailing":
        return np.arange(num_train_timesteps, 0, -num_train_timesteps / count).round() - 1
    return (np.arange(count) * (num_train_timesteps // count))[::-1] + float(steps_offset)


def falling_timesteps(
    timesteps: Sequence[float] | Tensor, most: int, whole: bool = True
) -> np.ndarray:
    """Timesteps of one's own, (N,); ValueError unless they fall, from `most` at the highest."""
    given = torch.as_tensor(timesteps).double().cpu().numpy()
    falling = given.ndim == 1 and len(given) > 0 and (np.diff(given) < 0).all()
    if not (falling and 0 <= given[-1] <= given[0] <= most) or (whole and (given % 1).any()):
        numbers = "whole numbers" if whole else "numbers"
        got = f"got {given.tolist()}"
        raise ValueError(f"expected timesteps: {numbers} that fall within {most} … 0, {got}")
    return given
