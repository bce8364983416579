"""A few steps instead of many: a network learns where each path of another's ODE ends (Song et al.
2023), guidance included and in latents (Luo et al. 2023). Chapter 15."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from minildm.diffusion.guidance import predict_guided, unconditional
from minildm.precision import at_least_float32
from minildm.schedulers.base import shaped
from minildm.schedulers.ddim import ddim_step
from minildm.schedulers.lcm import LCMScheduler, boundary_scalings
from minildm.text.text_encoder import CLIPTextModel
from minildm.training.batches import Batch

Model = Callable[..., Tensor]
"""sample (B, …), timesteps (B,), conditions -> what the scheduler's prediction_type says."""
Solver = Callable[..., Tensor]
"""sample (B, …), its timesteps (B,), those to go to (B,), conditions -> sample (B, …)."""


def consistency_function(
    model: Model, scheduler: LCMScheduler, x: Tensor, timesteps: Tensor, *condition: Tensor
) -> Tensor:
    """f(x_t, t) = c_skip·x_t + c_out·x̂₀, the end of the path that x_t lies on.

    Luo et al. 2023, eq. 9. At t = 0 it is x itself, whatever the network says: without that, a
    network that always says the same would satisfy every other condition. x: (B, …); timesteps:
    (B,) int.
    """
    sample = at_least_float32(x)
    c_skip, c_out = boundary_scalings(shaped(timesteps, x), scheduler.config.timestep_scaling)
    x0 = scheduler.predict_x0(model(x, timesteps, *condition), timesteps, sample)
    return (c_skip * sample + c_out * x0).to(x.dtype)


class GuidedTeacher(nn.Module):
    """A frozen network, asked with guidance: x (B, …), timesteps (B,), conditions -> what it says.

    nothing: the context of the empty prompt; guided_below: above this timestep it goes without
    guidance, which begins late; None: everywhere with it
    """

    nothing: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        guidance_scale: float = 1.0,
        nothing: Tensor | None = None,
        guided_below: int | None = None,
    ):
        super().__init__()
        if nothing is None and guidance_scale != 1:
            raise ValueError(
                f"expected the context of the empty prompt with guidance {guidance_scale:g}, "
                "got none"
            )
        self.model = model.eval().requires_grad_(False)
        self.guidance_scale = guidance_scale
        self.guided_below = guided_below
        self.register_buffer("nothing", nothing)

    def train(self, mode: bool = True) -> GuidedTeacher:
        return super().train(False)  # it teaches, it does not learn

    @torch.no_grad()
    def forward(self, x: Tensor, timesteps: Tensor, *condition: Tensor) -> Tensor:
        if self.nothing is None:
            return self.model(x, timesteps, *condition)
        (context,) = condition
        contexts = torch.stack([unconditional(self.nothing, context), context])
        scale = torch.full_like(timesteps, self.guidance_scale, dtype=x.dtype)
        if self.guided_below is not None:
            scale = torch.where(timesteps > self.guided_below, 1.0, scale)
        return predict_guided(self.model, x, timesteps, contexts, scales=[shaped(scale, x)])


class DDIMSolver(GuidedTeacher):
    """From x_t to x_s along the ODE of a frozen network by one step of DDIM, over many timesteps at
    once; Luo et al. 2023, section 4.3. With `nothing`, the context of the empty prompt, along the
    ODE with guidance."""

    def __init__(
        self,
        model: nn.Module,
        scheduler: LCMScheduler,
        guidance_scale: float = 1.0,
        nothing: Tensor | None = None,
    ):
        super().__init__(model, guidance_scale, nothing)
        self.scheduler = scheduler

    @torch.no_grad()
    def forward(self, x: Tensor, timesteps: Tensor, earlier: Tensor, *condition: Tensor) -> Tensor:
        """x: (B, …); timesteps and earlier, where to go: (B,) int. Returns x's shape."""
        prediction = super().forward(x, timesteps, *condition)
        sample = at_least_float32(x)
        x0 = self.scheduler.predict_x0(prediction, timesteps, sample)
        epsilon = self.scheduler.predict_epsilon(prediction, timesteps, sample)
        alpha, _ = self.scheduler.alpha_sigma(earlier, sample)
        return ddim_step(x0, epsilon, alpha**2).to(x.dtype)


def huber(difference: Tensor, c: float) -> Tensor:
    """√(d² + c²) - c, on average: squared for differences far below c, absolute far above.

    Any shape -> ().
    """
    return ((difference.square() + c**2).sqrt() - c).mean()


class ConsistencyLoss(nn.Module):
    """x0, noise (B, …), timesteps (B,) of those distilled on, conditions -> how far the student's
    end of the path is from the one that its slow average gives a solver's step later; Luo et al.
    2023, algorithm 1; ().

    decay: how much of the average stays at each step; 0 makes it the student itself. c: where
        `huber` bends.
    """

    def __init__(
        self,
        student: nn.Module,
        solver: Solver,
        scheduler: LCMScheduler,
        decay: float = 0.95,
        c: float = 0.01,
    ):
        super().__init__()
        if not 0 <= decay < 1 or not c > 0:
            raise ValueError(f"expected a decay in [0, 1) and c > 0, got {decay:g} and {c:g}")
        self.student = student
        self.solver = solver
        self.scheduler = scheduler
        self.decay = decay
        self.c = c
        self.target = copy.deepcopy(student).requires_grad_(False)

    @property
    def skipped(self) -> int:
        """How many timesteps the solver goes at once."""
        return (
            self.scheduler.config.num_train_timesteps
            // self.scheduler.config.original_inference_steps
        )

    def update_target(self) -> None:
        """Let the slow average follow what the optimizer made of the student since."""
        lerp = get_ema_multi_avg_fn(self.decay)
        lerp([*self.target.parameters()], [*self.student.parameters()], None)

    def forward(self, x0: Tensor, noise: Tensor, timesteps: Tensor, *condition: Tensor) -> Tensor:
        if self.training:
            self.update_target()
        earlier = (timesteps - self.skipped).clamp(min=0)
        xt = self.scheduler.add_noise(x0, noise, timesteps)
        with torch.no_grad():
            nearer = self.solver(xt, timesteps, earlier, *condition)
            goal = consistency_function(self.target, self.scheduler, nearer, earlier, *condition)
        end = consistency_function(self.student, self.scheduler, xt, timesteps, *condition)
        return huber(end - goal, self.c)


def consistency_batches(
    batch: Callable[[int], Batch],
    scheduler: LCMScheduler,
    text_encoder: CLIPTextModel | None = None,
) -> Callable[[int], Batch]:
    """step -> what ConsistencyLoss takes, of batches (x0, noise, index, conditions) that count the
    timesteps distilled on from 0. With a text encoder, which stays as it is, the condition's
    input_ids (B, L) become a context."""
    steps = scheduler.config.original_inference_steps
    timesteps = torch.as_tensor(scheduler.spaced_timesteps(steps)).flip(0)

    def made(step: int) -> Batch:
        x0, noise, index, *condition = batch(step)
        return x0, noise, timesteps[index], *encoded(text_encoder, condition)

    return made


@torch.no_grad()
def encoded(text_encoder: CLIPTextModel | None, condition: list[Tensor]) -> list[Tensor]:
    """The context (B, L, D) of a condition's input_ids (B, L), which a text encoder that stays as
    it is reads; without one the condition as it is."""
    if text_encoder is None:
        return condition
    prompts, which = condition[0].unique(dim=0, return_inverse=True)
    return [text_encoder(prompts)[which]]  # the same text is encoded once
