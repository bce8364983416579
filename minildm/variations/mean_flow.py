"""One step instead of many: a network learns the average velocity over a stretch of the path, not
the velocity at a point of it (Geng et al. 2025). Chapter 15.

The path is flow matching's straight line, z_t = (1 - t)·x₀ + t·ε with t in [0, 1]. From z_t to
z_r, r < t, lies the *interval* t - r. A step along the average velocity over it ends on the path,
however long it is: z_r = z_t - (t - r)·u. With t = 1 and r = 0, one step draws.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from minildm.diffusion.guidance import guide, unconditional
from minildm.diffusion.parameterization import noised, straight, to_epsilon, to_x0
from minildm.models.embeddings import get_guidance_scale_embedding
from minildm.models.unet import UNet2DConditionModel
from minildm.schedulers.base import shaped
from minildm.schedulers.sigmas import SigmaScheduler
from minildm.text.text_encoder import CLIPTextModel
from minildm.training.batches import Batch, step_generator
from minildm.training.losses import check_pair
from minildm.variations.distillation import encoded

AverageVelocity = Callable[..., Tensor]
"""z (B, …), t (B,) and interval (B,) in [0, 1], conditions -> u (B, …)."""
Velocity = Callable[..., Tensor]
"""z (B, …), t (B,) in [0, 1], ε - x₀ of the pair that z lies between, conditions -> v (B, …), the
velocity of the path there."""


def mean_flow_target(
    network: AverageVelocity,
    z: Tensor,
    velocity: Tensor,
    t: Tensor,
    interval: Tensor,
    *condition: Tensor,
) -> Tensor:
    """v - (t - r)·du/dt, what the network should say; Geng et al. 2025, section 4.1.

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
        du_dt = jvp(said, (z, t, interval), (velocity, ones, ones))[1]
    return velocity - shaped(interval, z) * du_dt


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
        later = z - shaped(first, z) * velocity
        rest = network(later, t - first, interval - first, *condition)
    share = shaped(torch.where(interval > 0, first / interval.clamp(min=1e-9), 1.0), z)
    return share * velocity + (1 - share) * rest


class MeanFlowLoss(nn.Module):
    """x0, noise (B, …), t and interval (B,), conditions -> how far the average velocity is from its
    target, (); Geng et al. 2025, sections 4.1 and 4.3.

    velocity: of the path at a point: a teacher's, with its guidance (`StraightVelocity`), or with
        guidance by the network itself (`OwnGuidance`); None: ε - x₀ of the pair, as it is
    target: `mean_flow_target` or `two_stretches_target`
    power: an error counts by its square / (square + 0.01)^power, so that the few large ones do not
        outweigh the others
    """

    def __init__(
        self,
        network: nn.Module,
        velocity: Velocity | None = None,
        target: Callable[..., Tensor] = mean_flow_target,
        power: float = 0.5,
    ):
        super().__init__()
        self.network = network
        self.velocity = velocity
        self.target = target
        self.power = power

    def forward(
        self, x0: Tensor, noise: Tensor, t: Tensor, interval: Tensor, *condition: Tensor
    ) -> Tensor:
        check_pair(noise, x0)
        if not (interval <= t).all():
            raise ValueError("expected intervals of at most t, for t - interval is not below 0")
        z = noised(x0, noise, *straight(shaped(t, x0)))
        v = noise - x0
        if self.velocity is not None:
            v = self.velocity(z, t, v, *condition)
        target = self.target(self.network, z, v, t, interval, *condition)
        u = self.network(z, t, interval, *condition)
        squares = (u - target).square().flatten(1).mean(1)
        weights = (squares.detach() + 0.01) ** -self.power
        return (weights * squares).mean()


class MeanFlowUNet(nn.Module):
    """A U-Net as a network of average velocities: z (B, C, h, w), t and interval (B,) in [0, 1],
    context (B, L, D) -> u (B, C, h, w). The interval is what it is told beside the time."""

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__()
        if unet.config.time_cond_proj_dim is None:
            raise ValueError("expected a U-Net with time_cond_proj_dim, got one without")
        self.unet = unet

    def forward(self, z: Tensor, t: Tensor, interval: Tensor, context: Tensor) -> Tensor:
        told = get_guidance_scale_embedding(interval, self.unet.config.time_cond_proj_dim)
        return self.unet(z, 1000 * t, context, timestep_cond=told)


def told_the_interval(unet: UNet2DConditionModel, dim: int = 64) -> UNet2DConditionModel:
    """A U-Net with the same weights and a place for the interval; at first it says the same
    whatever it is told there."""
    made = UNet2DConditionModel.from_config(unet.config, time_cond_proj_dim=dim)
    key = "time_embedding.cond_proj.weight"
    made.load_state_dict(unet.state_dict() | {key: torch.zeros_like(made.state_dict()[key])})
    return made


class StraightVelocity(nn.Module):
    """The velocity of the straight path, by a teacher that was trained on the curved one,
    α² + σ² = 1.

    Both paths have the same points, but for their scale: z_t divided by √((1 - t)² + t²) is x at
    the timestep with that part of noise. What the network says there is an x₀ and an ε; the
    velocity is ε - x₀.
    """

    def __init__(self, model: nn.Module, scheduler: SigmaScheduler):
        super().__init__()
        self.model = model
        self.scheduler = scheduler

    @torch.no_grad()
    def forward(self, z: Tensor, t: Tensor, pair: Tensor, *condition: Tensor) -> Tensor:
        size = ((1 - t) ** 2 + t**2).sqrt()
        alpha, sigma = shaped((1 - t) / size, z), shaped(t / size, z)
        x = z / shaped(size, z)
        sigmas = (t / (1 - t).clamp(min=1e-6)).double().clamp(min=1e-6)
        timesteps = torch.from_numpy(self.scheduler.timesteps_at(sigmas.cpu().numpy())).to(t)
        said = self.model(x, timesteps, *condition)
        kind = self.scheduler.prediction_type
        return to_epsilon(kind, said, x, alpha, sigma) - to_x0(kind, said, x, alpha, sigma)


class OwnGuidance(nn.Module):
    """Guidance without a teacher and without a second pass when drawing: w·(ε - x₀) + (1 - w)·u∅,
    where u∅ is what the network itself says, without a prompt, of the velocity at that point; Geng
    et al. 2025, section 4.2."""

    nothing: Tensor

    def __init__(self, network: nn.Module, guidance_scale: float, nothing: Tensor):
        super().__init__()
        self.network = network
        self.guidance_scale = guidance_scale
        self.register_buffer("nothing", nothing)

    @torch.no_grad()
    def forward(self, z: Tensor, t: Tensor, pair: Tensor, context: Tensor) -> Tensor:
        nothing = unconditional(self.nothing, context)
        unguided = self.network(z, t, torch.zeros_like(t), nothing)
        return guide([unguided, pair], [self.guidance_scale])


def mean_flow_batches(
    batch: Callable[[int], Batch],
    seed: int,
    text_encoder: CLIPTextModel | None = None,
    same: float = 0.25,
    whole: float = 0.2,
) -> Callable[[int], Batch]:
    """step -> what MeanFlowLoss takes, of batches (x0, noise, timesteps, conditions), whose
    timesteps give way to two times drawn evenly, the later t and t - interval.

    same: this part has no interval, which is plain flow matching; whole: this part goes all the way
    from noise, which is the step that draws
    """

    def made(step: int) -> Batch:
        x0, noise, _, *condition = batch(step)
        generator = step_generator(seed, "intervals", step)
        one, other, kind = torch.rand(3, len(x0), generator=generator)
        t, r = torch.maximum(one, other), torch.minimum(one, other)
        r = torch.where(kind < same, t, r)
        t, r = torch.where(kind > 1 - whole, 1.0, t), torch.where(kind > 1 - whole, 0.0, r)
        return x0, noise, t, t - r, *encoded(text_encoder, condition)

    return made
