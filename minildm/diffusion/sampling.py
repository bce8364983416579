"""The sampling loop, from noise step by step to a clean sample (Ho et al. 2020, algorithm 2).
Chapters 05 and 11.

There is one loop for every sampler and every kind of condition: what the network is told, and how
it is guided, is bound in `predict`, as k-diffusion has it; what a step is, the scheduler knows.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Protocol

import torch
from torch import Tensor

from minildm.precision import at_least_float32

Predict = Callable[[Tensor, Tensor], Tensor]
"""What a network says of x (N, ...) at a timestep (), its condition and its guidance included."""

Callback = Callable[[int, Tensor, Tensor, Tensor], None]
"""Is told at every step: its number, the timestep, x before it, the x0 predicted from that."""

Constrain = Callable[[Tensor, Tensor | None], Tensor]
"""What becomes of x after a step, at the timestep that comes next, or None after the last one."""


class SamplingScheduler(Protocol):
    """What the loop asks of a scheduler."""

    timesteps: Tensor

    @property
    def init_noise_sigma(self) -> Tensor | float: ...

    def set_timesteps(self, num_inference_steps: int) -> None: ...

    def set_begin_index(self, begin_index: int = 0) -> None: ...

    def add_noise_at(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor: ...

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor: ...

    def predict_x0(self, model_output: Tensor, timestep: Tensor, sample: Tensor) -> Tensor: ...

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor,
        sample: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor: ...


@torch.no_grad()
def sample(
    predict: Predict,
    scheduler: SamplingScheduler,
    noise: Tensor,
    num_inference_steps: int,
    *,
    x0: Tensor | None = None,
    begin_index: int = 0,
    constrain: Constrain | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Clean samples from standard normal `noise`, both (N, ...), in `num_inference_steps` steps.

    Of noise in half precision the network sees and says x_t in that; between the steps, where
    rounding would add up, x_t is in float32.

    predict: the network, with its condition and its guidance bound
    x0, begin_index: clean samples (N, ...) to begin from, noised, at this place of the timesteps
        (SDEdit, Meng et al. 2022), instead of from nothing but noise
    constrain: what to do to x after each step, as inpainting does (RePaint, Lugmayr et al. 2022)
    generator: of the noise that a stochastic sampler adds on the way
    """
    scheduler.set_timesteps(num_inference_steps)  # also forgets the steps of a drawing before
    check_start(x0, begin_index, noise, len(scheduler.timesteps))
    scheduler.set_begin_index(begin_index)
    timesteps = scheduler.timesteps[begin_index:]
    if x0 is None:
        x = at_least_float32(noise) * scheduler.init_noise_sigma
    else:
        x = scheduler.add_noise_at(at_least_float32(x0), noise, timesteps[0])
    for i, t in enumerate(timesteps):
        prediction = predict(scheduler.scale_model_input(x, t).to(noise.dtype), t)
        if callback is not None:
            callback(i, t, x, scheduler.predict_x0(prediction, t, x))
        x = scheduler.step(prediction, t, x, generator=generator)
        if constrain is not None:
            x = constrain(x, timesteps[i + 1] if i + 1 < len(timesteps) else None)
    return x.to(noise.dtype)


def check_start(x0: Tensor | None, begin_index: int, noise: Tensor, visits: int) -> None:
    """ValueError unless there is something to begin from at this place of the `visits` timesteps,
    a clean sample for each of the noise."""
    if not (isinstance(begin_index, Integral) and 0 <= begin_index < visits):
        raise ValueError(f"expected a begin_index from 0 to {visits - 1}, got {begin_index!r}")
    if x0 is None and begin_index:
        raise ValueError(f"expected an x0 to begin from at index {begin_index}, got none")
    if x0 is not None and x0.shape != noise.shape:
        got = tuple(x0.shape)
        raise ValueError(f"expected x0 of the noise's shape {tuple(noise.shape)}, got {got}")
