"""Which timesteps to visit: evenly spaced ones, or somebody's own (Lin et al. 2023). Chapter 05.

diffusers spaces some of them in whole numbers, T // count apart, and so do we, to draw the same.
Where `count` does not divide T that is less than it should be, and above T / 2 it is 1: more steps
may draw worse. There a warning says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from minildm.configuration.kinds import as_float

SPACINGS = ("leading", "trailing", "linspace")


def evenly_spaced(
    spacing: str, count: int, num_train_timesteps: int, steps_offset: int = 0
) -> np.ndarray:
    """`count` timesteps, falling; Lin et al. 2023, table 2. "leading" never visits the noisiest
    timestep, "trailing" starts there, "linspace" has both ends.

    steps_offset: what "leading" adds to each of them, as far as there is room.
    """
    if spacing == "linspace":
        return np.linspace(0, num_train_timesteps - 1, count)[::-1].copy()
    if spacing == "trailing":
        # rounding may leave one more, -1, where there is none; diffusers goes there
        every = np.arange(num_train_timesteps, 0, -num_train_timesteps / count)
        return every.round()[:count] - 1
    stride = num_train_timesteps // count
    room = num_train_timesteps - 1 - (count - 1) * stride
    return (np.arange(count) * stride)[::-1] + float(min(steps_offset, room))


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


def warn_late_start(first: float, count: int, most: int) -> None:
    """A warning if so many steps begin at `first`, far from the noise that they are given."""
    evenly = most * count / (count + 1)
    if first < 0.75 * evenly:
        warnings.warn(
            f"expected steps that begin with noise, near timestep {evenly:.0f}, got {count} of a "
            f"spacing that begins at {first:.0f}, where much of the picture should be there "
            f"already; {'more' if count < 3 else 'fewer'} steps begin nearer",
            stacklevel=2,  # one place, whoever asks: a drawing asks three times
        )


def warn_short_stride(timesteps: np.ndarray, stride: int) -> None:
    """A warning if steps of this stride fall short of the way between the timesteps."""
    gap = float(timesteps[0] - timesteps[-1]) / max(1, len(timesteps) - 1)
    if stride < 0.95 * gap:
        warnings.warn(
            f"expected timesteps as far apart as a step takes away noise, {stride} (diffusers' "
            f"T // steps), got {len(timesteps)} that lie {gap:.3g} apart: noise will be left; "
            "other steps, leading spacing or another sampler leave none",
            stacklevel=2,
        )


def warn_long_first_step(sigmas: np.ndarray) -> None:
    """A warning if Heun's first step, from σ to σ', the first of these sigmas, (N,), errs by more
    than all there is: its error on data of unit variance is σ/2·(1 + σ'²)^-1.5 of it."""
    if len(sigmas) > 1 and sigmas[0] > 2 * (1 + sigmas[1] ** 2) ** 1.5:
        warnings.warn(
            "expected a first step that Heun's method can take, got one from sigma "
            f"{sigmas[0]:.4g} to {sigmas[1]:.2g}, at whose end the slope says little of the way: "
            "more steps or another sampler draw better",
            stacklevel=2,
        )


def as_number(timestep: object) -> float:
    """One timestep as a number; ValueError for what is none, or more than one."""
    if (number := as_float(timestep)) is None:
        got = tuple(timestep.shape) if isinstance(timestep, Tensor) else repr(timestep)
        raise ValueError(f"expected a timestep, one number, got {got}")
    return number


def check_range(timesteps: Tensor, most: int) -> None:
    """ValueError unless all timesteps lie between 0 and `most`."""
    if timesteps.is_complex() or timesteps.dtype == torch.bool:
        raise ValueError(f"expected timesteps, numbers, got {timesteps.dtype}")
    if timesteps.numel() and not 0 <= timesteps.min() <= timesteps.max() <= most:
        raise ValueError(f"expected timesteps from 0 to {most}, got {timesteps.tolist()}")
