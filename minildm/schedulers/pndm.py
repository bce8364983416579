"""Pseudo numerical methods on the manifold: a multistep formula for ε, then DDIM's transfer (Liu et
al. 2022). Real Stable Diffusion 1.x folders name it. Chapter 05."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from minildm.configuration.mixins import register_to_config
from minildm.diffusion.parameterization import to_epsilon
from minildm.schedulers.base import Scheduler, checked_output
from minildm.schedulers.timesteps import warn_short_stride

# Adams-Bashforth: how much of the newest ε, the one before, ... ; Liu et al. 2022, eq. 12 and its
# shorter beginnings.
MULTISTEP = {
    1: (1,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}
RUNGE_KUTTA = (1 / 6, 1 / 3, 1 / 3, 1 / 6)


def transfer(
    sample: Tensor, epsilon: Tensor, alpha_prod_t: Tensor, alpha_prod_t_prev: Tensor
) -> Tensor:
    """From x_t along ε to x_{t'}, in the form that has no difference of nearly equal roots.

    Liu et al. 2022, eq. 11.
    """
    scale = (
        alpha_prod_t * (1 - alpha_prod_t_prev).sqrt()
        + (alpha_prod_t * (1 - alpha_prod_t) * alpha_prod_t_prev).sqrt()
    )
    return (alpha_prod_t_prev / alpha_prod_t).sqrt() * sample - (
        alpha_prod_t_prev - alpha_prod_t
    ) * epsilon / scale


class PNDMScheduler(Scheduler):
    """A linear multistep method, begun with one step of Heun's kind (`skip_prk_steps`) or three of
    Runge-Kutta's. As in `DDIMScheduler` a step goes over T // steps timesteps."""

    prediction_types = ("epsilon", "v_prediction")
    kind_of_timesteps = None

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: tuple[float, ...] | None = None,
        skip_prk_steps: bool = False,
        set_alpha_to_one: bool = False,
        prediction_type: str = "epsilon",
        timestep_spacing: str = "leading",
        steps_offset: int = 0,
    ):
        self.prepare()
        self.final_alpha_cumprod = torch.tensor(1.0) if set_alpha_to_one else self.alphas_cumprod[0]

    def visit(self, timesteps: np.ndarray, device: torch.device | str | None) -> None:
        """The first phase visits some of them more than once, so there are more than asked."""
        falling = timesteps.round().astype(np.int64)
        self.stride = self.config.num_train_timesteps // len(falling)
        warn_short_stride(falling, self.stride)
        if self.config.skip_prk_steps:  # the second timestep twice
            first = falling[:0]
            rest = np.concatenate([falling[:1], falling[1:2], falling[1:]])
        else:
            if len(falling) < 4:
                got = f"got {len(falling)}"
                raise ValueError(f"expected 4 steps or more for Runge-Kutta's beginning, {got}")
            # three steps, each from a timestep by way of the middle (twice) to the next
            halves = falling[:4].repeat(2) + np.tile([self.stride // 2, 0], 4)
            first = halves[1:].repeat(2)[1:-1]
            rest = falling[3:]
        self.runge_kutta_steps = len(first)
        self.timesteps = torch.as_tensor(np.concatenate([first, rest]).copy()).to(device)
        self.index, self.counter, self.epsilons = 0, 0, []
        self.sum: Tensor | float = 0.0

    def set_begin_index(self, begin_index: int = 0) -> None:
        """As in diffusers the first phase still comes first, and repeats the second step."""
        if begin_index and self.runge_kutta_steps:
            raise ValueError(
                "expected skip_prk_steps=True to begin at an image, got Runge-Kutta's beginning"
            )
        self.index = begin_index

    def next_timestep(self) -> int:
        """Each step is made of those before it, so the timesteps come in their order."""
        if self.index == len(self.timesteps):
            taken = f"all {self.index} steps are taken"
            raise ValueError(f"expected set_timesteps before another drawing: {taken}")
        return int(self.timesteps[self.index])

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        t = self.checked_step(timestep)
        if t != self.next_timestep():
            expected = f"timestep {self.next_timestep()}, which comes next"
            raise ValueError(f"expected {expected}, got {t}")
        output, x = checked_output(model_output, sample)
        phase = self.runge_kutta if self.counter < self.runge_kutta_steps else self.multistep
        previous = phase(output, t, x)
        self.index, self.counter = self.index + 1, self.counter + 1
        return previous.to(sample.dtype)

    def runge_kutta(self, model_output: Tensor, timestep: int, sample: Tensor) -> Tensor:
        """Four of these make one step: twice to the middle, to the end, and to the end by all four
        together."""
        stage = self.counter % 4
        target = timestep - (0 if self.counter % 2 else self.stride // 2)
        start = int(self.timesteps[self.counter - stage])
        if stage == 0:
            self.epsilons.append(model_output)
            self.start, self.sum = sample, 0.0
        weighted = self.sum + RUNGE_KUTTA[stage] * model_output
        self.sum = weighted
        return self.move(self.start, start, target, weighted if stage == 3 else model_output)

    def multistep(self, model_output: Tensor, timestep: int, sample: Tensor) -> Tensor:
        target = timestep - self.stride
        if self.counter == 1:
            # the same step again, with the mean of ε at its beginning and at its end
            timestep, target = timestep + self.stride, timestep
            return self.move(self.start, timestep, target, (model_output + self.epsilons[-1]) / 2)
        self.epsilons = [*self.epsilons[-3:], model_output]
        self.start = sample
        weights = MULTISTEP[len(self.epsilons)]
        combined = weights[0] * model_output
        for weight, epsilon in zip(weights[1:], self.epsilons[-2::-1], strict=True):
            combined = combined + weight * epsilon
        return self.move(sample, timestep, target, combined)

    def move(self, sample: Tensor, timestep: int, target: int, model_output: Tensor) -> Tensor:
        alpha_prod_t = self.alphas_cumprod[timestep]
        alpha_prod_t_prev = self.alphas_cumprod[target] if target >= 0 else self.final_alpha_cumprod
        alpha, sigma = alpha_prod_t.sqrt(), (1 - alpha_prod_t).sqrt()
        epsilon = to_epsilon(self.prediction_type, model_output, sample, alpha, sigma)
        return transfer(sample, epsilon, alpha_prod_t, alpha_prod_t_prev)
