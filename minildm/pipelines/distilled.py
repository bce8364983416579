"""What a distilled U-Net is told beside the time: the guidance that is in its weights (Meng et al.
2023), or how far a step goes (Geng et al. 2025). Chapter 15."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from minildm.models.embeddings import get_guidance_scale_embedding
from minildm.pipelines.checkpoints import INTERVAL
from minildm.schedulers.base import Scheduler
from minildm.schedulers.sigmas import SigmaScheduler


def time_cond_proj_dim(unet: nn.Module) -> int | None:
    """How many numbers a distilled U-Net is told beside the time; None for all others. A distilled
    one needs no second pass for guidance."""
    return getattr(unet, "config", {}).get("time_cond_proj_dim")


def step_interval(scheduler: Scheduler, timestep: Tensor) -> float:
    """How far a step of flow matching goes, t - r, as a part of the whole path."""
    if not isinstance(scheduler, SigmaScheduler) or scheduler.prediction_type != "flow_prediction":
        expected = "a scheduler of flow matching for a U-Net of average velocities"
        raise ValueError(f"expected {expected}, got {type(scheduler).__name__}")
    here = scheduler.index_at(timestep)
    return float(scheduler.sigmas[here] - scheduler.sigmas[here + 1])


def timestep_cond(
    unet: nn.Module,
    scheduler: Scheduler,
    card: Mapping[str, object],
    timestep: Tensor,
    guidance_scale: float,
    batch: int,
) -> Tensor | None:
    """What the U-Net is told beside the timestep, (batch, time_cond_proj_dim): as in diffusers the
    guidance_scale less 1, or, where the card says so, the step's interval. None if it has no place
    for it."""
    dim = time_cond_proj_dim(unet)
    if dim is None:
        return None
    if card.get("timestep_cond") == INTERVAL:
        if guidance_scale > 1:
            expected = "expected no guidance_scale (1): it is in this model's weights"
            raise ValueError(f"{expected}, got {guidance_scale:g}")
        number = step_interval(scheduler, timestep)
    else:
        number = guidance_scale - 1
    return get_guidance_scale_embedding(torch.full((batch,), float(number)), dim)
