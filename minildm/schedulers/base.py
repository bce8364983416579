"""What all schedulers share: the tables of a noise schedule, which timesteps to visit, and one
quantity under three names (Ho et al. 2020; Salimans & Ho 2022). Chapters 02 and 05.

A scheduler holds no network. In training it adds noise; in sampling it is told what the network
said of x_t, and gives x at the timestep before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from minildm.configuration.kinds import is_count
from minildm.configuration.mixins import Config, ConfigMixin, frozen, given_keys
from minildm.diffusion.parameterization import noised, to_epsilon, to_x0, training_target
from minildm.diffusion.schedules import alphas_cumprod, make_betas, rescale_zero_terminal_snr
from minildm.precision import at_least_float32
from minildm.schedulers.returns import tensor_only
from minildm.schedulers.timesteps import (
    SPACINGS,
    as_number,
    check_range,
    evenly_spaced,
    falling_timesteps,
    warn_late_start,
)


class Scheduler(ConfigMixin):
    """What schedulers with the forward process x_t = √ᾱ_t·x₀ + √(1 - ᾱ_t)·ε share; DDPM eq. 4."""

    config_name = "scheduler_config.json"
    prediction_types: ClassVar[tuple[str, ...]] = ("epsilon", "sample", "v_prediction")
    # what set_timesteps(timesteps=…) takes: whole numbers, numbers between them, too, or nothing
    kind_of_timesteps: ClassVar[type[float] | None] = int
    order = 1

    def __init_subclass__(cls) -> None:
        if "step" in vars(cls):
            cls.step = tensor_only(cls.step)

    def prepare(self) -> None:
        """Make the tables that `self.config` asks for; the last line of every constructor."""
        config = self.config
        if self.prediction_type not in self.prediction_types:
            expected = ", ".join(self.prediction_types)
            raise ValueError(
                f"expected a prediction_type of {expected}, got {self.prediction_type!r}"
            )
        spacing = config.get("timestep_spacing", "linspace")
        if spacing not in SPACINGS:
            raise ValueError(
                f"expected a timestep_spacing of {', '.join(SPACINGS)}, got {spacing!r}"
            )
        if config.trained_betas is not None:
            if not config.trained_betas or not all(0 < beta <= 1 for beta in config.trained_betas):
                raise ValueError(
                    f"expected trained_betas in (0, 1], at least one, got {config.trained_betas}"
                )
            if len(config.trained_betas) != config.num_train_timesteps:
                expected = (
                    f"as many trained_betas as num_train_timesteps={config.num_train_timesteps}"
                )
                raise ValueError(f"expected {expected}, got {len(config.trained_betas)}")
            self.betas = torch.tensor(config.trained_betas, dtype=torch.float32)
        else:
            self.betas = make_betas(
                config.beta_schedule, config.num_train_timesteps, config.beta_start, config.beta_end
            )
        if config.get("rescale_betas_zero_snr"):
            if config.prediction_type == "epsilon":
                raise ValueError(
                    "expected v_prediction or sample with rescale_betas_zero_snr: at the last "
                    "timestep nothing is left of x0, and computing it from epsilon would divide by "
                    "zero"
                )
            self.betas = rescale_zero_terminal_snr(self.betas)
        self.alphas = 1 - self.betas
        self.alphas_cumprod = alphas_cumprod(self.betas)
        self.num_inference_steps: int | None = None
        self.timesteps = torch.arange(config.num_train_timesteps).flip(0)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **overrides: Any) -> Self:
        """A scheduler from its own configuration or from another's, where keys that only other
        schedulers know change nothing, and are carried along for those made from this one."""
        own, siblings = _known_keys(cls), set().union(*map(_known_keys, _all_subclasses(Scheduler)))
        given = given_keys(config)
        mine = {key: value for key, value in given.items() if key in own or key not in siblings}
        made = super().from_config(mine, **overrides)
        others = [key for key in given if key not in made.config and key[:1] != "_"]
        carried = {key: frozen(given[key]) for key in others}
        made.config = Config({**made.config, **carried}, made.config.defaults)
        return made

    @property
    def prediction_type(self) -> str:
        """What the network says of x_t, a name in `diffusion.PARAMETERIZATIONS`."""
        return self.config.prediction_type

    # Training

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = √ᾱ_t·x₀ + √(1 - ᾱ_t)·ε, DDPM eq. 4 (`q_sample`).

        original_samples, the x₀, and noise: (B, ...); timesteps: (B,) or (1,) int.
        """
        check_noise(original_samples, noise, timesteps)
        return noised(original_samples, noise, *self.alpha_sigma(timesteps, original_samples))

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = √ᾱ_t·ε - √(1 - ᾱ_t)·x₀, Salimans & Ho 2022, section 4; in flow matching ε - x₀.
        sample is x0 here; shapes as in `add_noise`."""
        check_noise(sample, noise, timesteps)
        flow = self.prediction_type == "flow_prediction"
        alpha, sigma = self.alpha_sigma(timesteps, sample)
        kind = "flow_prediction" if flow else "v_prediction"
        return training_target(kind, sample, noise, alpha, sigma)

    def training_target(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network is to say of x_t, as `prediction_type` has it."""
        check_noise(x0, noise, timesteps)
        alpha, sigma = self.alpha_sigma(timesteps, x0)
        return training_target(self.prediction_type, x0, noise, alpha, sigma)

    def alpha_sigma(self, timesteps: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ of x_t in training, √ᾱ_t and √(1 - ᾱ_t), shaped to multiply `like` (B, ...); in
        float32 where it is in half precision."""
        timesteps = torch.as_tensor(timesteps).cpu()
        if (timesteps != timesteps.long()).any():
            raise ValueError(f"expected timesteps that are whole numbers, got {timesteps.tolist()}")
        check_range(timesteps, len(self.alphas_cumprod) - 1)
        alpha_prod_t = shaped(self.alphas_cumprod[timesteps.long()], like)
        return alpha_prod_t.sqrt(), (1 - alpha_prod_t).sqrt()

    # Sampling

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: torch.device | str | None = None,
        *,
        timesteps: Sequence[float] | Tensor | None = None,
    ) -> None:
        """Choose the timesteps to visit, noisiest first, and forget every step taken before: so
        many, spaced as the configuration says, or `timesteps` themselves."""
        if timesteps is None:
            count = self.check_steps(num_inference_steps)
            chosen = self.spaced_timesteps(count)
        else:
            if num_inference_steps is not None:
                raise ValueError("expected num_inference_steps or timesteps, got both")
            chosen = self.check_timesteps(timesteps)
            count = len(chosen)
        self.num_inference_steps = count
        self.visit(chosen, device)
        if timesteps is None:
            warn_late_start(float(self.timesteps[0]), count, self.config.num_train_timesteps)

    def visit(self, timesteps: np.ndarray, device: torch.device | str | None) -> None:
        """Be ready for the first of these timesteps, (N,), falling."""
        self.timesteps = torch.as_tensor(timesteps.round().astype(np.int64)).to(device)

    @property
    def most_steps(self) -> int:
        """How many steps there can be."""
        return self.config.num_train_timesteps

    def check_steps(self, num_inference_steps: int | None) -> int:
        """The number of steps, if there can be so many."""
        steps, most = num_inference_steps, self.most_steps
        if not (isinstance(steps, Integral) and is_count(steps) and steps <= most):
            raise ValueError(f"expected num_inference_steps from 1 to {most}, got {steps!r}")
        return int(steps)

    def check_timesteps(self, timesteps: Sequence[float] | Tensor) -> np.ndarray:
        """The timesteps, (N,), if this scheduler can visit them."""
        kind = self.kind_of_timesteps
        if kind is None:
            raise ValueError(
                f"expected num_inference_steps: {type(self).__name__} has timesteps of its own only"
            )
        return falling_timesteps(timesteps, self.config.num_train_timesteps - 1, kind is int)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin at this place of `timesteps`, as one does from an image; only samplers that count
        need to be told."""

    def spaced_timesteps(self, count: int) -> np.ndarray:
        """`count` timesteps, falling, as the configuration says."""
        config = self.config
        return evenly_spaced(
            config.timestep_spacing, count, config.num_train_timesteps, config.steps_offset
        )

    @property
    def init_noise_sigma(self) -> Tensor | float:
        """What standard normal noise is multiplied by before the first step."""
        return 1.0

    def alpha_sigma_at(self, timestep: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ of x at one of the timesteps to visit, on the scale that `step` works on."""
        return self.alpha_sigma(timestep, like)

    def add_noise_at(self, x0: Tensor, noise: Tensor, timestep: Tensor | float) -> Tensor:
        """x at one of the timesteps to visit, on the scale that `step` works on.

        x0, noise: (B, ...).
        """
        return noised(x0, noise, *self.alpha_sigma_at(timestep, x0))

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float) -> Tensor:
        """What the network is to see of `sample`; most schedulers show it as it is."""
        return sample

    def predict_x0(self, model_output: Tensor, timestep: Tensor | float, sample: Tensor) -> Tensor:
        """The x0 that the network's output amounts to, whatever its prediction_type.

        All (B, C, H, W).
        """
        alpha, sigma = self.alpha_sigma_at(timestep, sample)
        return to_x0(self.prediction_type, model_output, sample, alpha, sigma)

    def predict_epsilon(
        self, model_output: Tensor, timestep: Tensor | float, sample: Tensor
    ) -> Tensor:
        """The noise that the network's output amounts to, whatever its prediction_type.

        All (B, C, H, W).
        """
        alpha, sigma = self.alpha_sigma_at(timestep, sample)
        return to_epsilon(self.prediction_type, model_output, sample, alpha, sigma)

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """From x_t, `sample`, and what the network said of it to x at the timestep before.

        All (B, C, H, W). Computed in float32 or more, returned in the sample's type.
        """
        raise NotImplementedError

    def require_timesteps(self) -> int:
        """The number of steps that `set_timesteps` was told."""
        if self.num_inference_steps is None:
            raise ValueError(
                f"expected set_timesteps(num_inference_steps) before {type(self).__name__}.step"
            )
        return self.num_inference_steps

    def checked_step(self, timestep: Tensor | float) -> int:
        """The timestep as a number, if `step` can be taken from it."""
        self.require_timesteps()
        t, last = as_number(timestep), len(self.alphas_cumprod) - 1
        if not (t.is_integer() and 0 <= t <= last):
            raise ValueError(f"expected a timestep, a whole number from 0 to {last}, got {t:g}")
        return int(t)

    def clip(self, x0: Tensor) -> Tensor:
        """x0 kept within the range of pixels if `clip_sample` says so; latents have none."""
        limit = self.config.clip_sample_range
        return x0.clamp(-limit, limit) if self.config.clip_sample else x0


def check_noise(x0: Tensor, noise: Tensor, timesteps: Tensor) -> None:
    """ValueError unless each x0 has its noise and its timestep: other shapes would multiply."""
    if noise.shape != x0.shape:
        raise ValueError(
            f"expected noise of the samples' shape {tuple(x0.shape)}, got {tuple(noise.shape)}"
        )
    shape = tuple(torch.as_tensor(timesteps).shape)
    if math.prod(shape) not in (1, len(x0)):
        raise ValueError(f"expected one timestep, or one per sample ({len(x0)}), got {shape}")


def shaped(values: Tensor, like: Tensor) -> Tensor:
    """One number, or one for each sample (B,), shaped to multiply `like` (B, ...), where it is, and
    in its type if that is not half precision."""
    values = values.to(like.device, torch.promote_types(like.dtype, torch.float32))
    return values.reshape(-1, *[1] * (like.ndim - 1)) if values.ndim else values


def checked_output(model_output: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
    """What the network said and what it saw, in float32 or more; ValueError unless it said as
    much."""
    if model_output.shape != sample.shape:
        got = tuple(model_output.shape)
        raise ValueError(
            f"expected a model_output of the sample's shape {tuple(sample.shape)}, got {got}; "
            "what a network returns is the tensor itself, without .sample or [0]"
        )
    return at_least_float32(model_output), at_least_float32(sample)


def fresh_noise(sample: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise of the sample's shape, drawn where the generator is."""
    device = generator.device if generator else sample.device
    noise = torch.randn(sample.shape, generator=generator, dtype=sample.dtype, device=device)
    return noise.to(sample.device)


def _known_keys(cls: type[Scheduler]) -> set[str]:
    return {*cls.arguments(), *cls.unsupported}


def _all_subclasses(cls: type[Scheduler]) -> list[type[Scheduler]]:
    return [sub for child in cls.__subclasses__() for sub in [child, *_all_subclasses(child)]]
