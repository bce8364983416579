"""One step whose pictures are distributed as the teacher's are, whichever noise they come from (Yin
et al. 2024, "One-step Diffusion with Distribution Matching Distillation"). Chapter 15.

Average velocities tell a student which picture a noise leads to, and where it is in doubt it draws
a blurred one. Here it is only asked that its pictures are as likely as the teacher's. A network
that denoises knows the way to the likely: what the teacher makes of a noisy picture, less what a
network makes of it that is trained on nothing but the student's pictures, points from where the
student draws too often to where it draws too seldom.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minildm.diffusion.parameterization import noised
from minildm.schedulers.base import Scheduler, shaped
from minildm.text.text_encoder import CLIPTextModel
from minildm.training.batches import Batch, step_generator
from minildm.variations.distillation import Model, encoded


class OneStep(nn.Module):
    """A network of average velocities as a generator: noise (B, …), conditions -> x0 (B, …), the
    whole way at once."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, noise: Tensor, *condition: Tensor) -> Tensor:
        all_of_it = torch.ones(len(noise), device=noise.device)
        return noise - self.network(noise, all_of_it, all_of_it, *condition)


class DistributionMatchingLoss(nn.Module):
    """start and noise (B, …), timesteps (B,), conditions -> what the student and the network that
    follows it have to learn, (); Yin et al. 2024, section 3.2, both in each step.

    student: start, conditions -> x0
    follower: learns to denoise what the student draws; begins as a copy of the teacher
    student_every: the student learns at each so-manieth step only, for the follower to keep up
    teacher: with its guidance; what it and the follower say is of the scheduler's prediction_type
    """

    steps: Tensor

    def __init__(
        self,
        student: nn.Module,
        follower: nn.Module,
        teacher: Model,
        scheduler: Scheduler,
        student_every: int = 1,
    ):
        super().__init__()
        self.student_every = student_every
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # resumed with it
        self.student = student
        self.follower = follower
        self.teacher = teacher
        self.scheduler = scheduler

    def forward(
        self, start: Tensor, noise: Tensor, timesteps: Tensor, *condition: Tensor
    ) -> Tensor:
        self.steps += 1
        learns = int(self.steps) % self.student_every == 0
        with torch.set_grad_enabled(learns):
            x0 = self.student(start, *condition)
        drawn = x0.detach()
        xt = noised(drawn, noise, *self.scheduler.alpha_sigma(timesteps, drawn))
        followed = self.follower(xt, timesteps, *condition)
        following = F.mse_loss(followed, self.scheduler.training_target(drawn, noise, timesteps))
        if not learns:
            return following
        away = drawn - self.uphill(xt, timesteps, drawn, followed.detach(), *condition)
        return following + 0.5 * F.mse_loss(x0, away)

    @torch.no_grad()
    def uphill(
        self, xt: Tensor, timesteps: Tensor, drawn: Tensor, followed: Tensor, *condition: Tensor
    ) -> Tensor:
        """From the teacher's x₀ to the follower's, on a scale of its own for each picture."""
        said = self.teacher(xt, timesteps, *condition)
        likely = self.scheduler.predict_x0(said, timesteps, xt)
        own = self.scheduler.predict_x0(followed, timesteps, xt)
        scale = (drawn - likely).abs().flatten(1).mean(1)
        return (own - likely) / shaped(scale, xt)


def matching_batches(
    batch: Callable[[int], Batch],
    seed: int,
    text_encoder: CLIPTextModel | None = None,
    num_train_timesteps: int = 1000,
) -> Callable[[int], Batch]:
    """step -> what DistributionMatchingLoss takes, of batches (x0, noise, timesteps, conditions),
    whose pictures are not needed: their place is taken by noise to draw from. Timesteps nearer than
    2 % to either end, where there is nothing left to tell apart, are moved there; Yin et al. 2024,
    section 3."""

    def made(step: int) -> Batch:
        x0, noise, timesteps, *condition = batch(step)
        timesteps = timesteps.clamp(num_train_timesteps // 50, num_train_timesteps * 49 // 50)
        start = torch.randn(x0.shape, generator=step_generator(seed, "start", step))
        return start, noise, timesteps, *encoded(text_encoder, condition)

    return made
