"""Guidance: away from what a network says knowing less, towards what it says knowing more (Ho &
Salimans 2021). Chapters 09, 11 and 15.

"Less" is no prompt in classifier-free guidance, and in autoguidance a weaker network that is told
the same (Karras et al. 2024; `pipelines/autoguidance.py`): nothing here asks where the predictions
come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from minildm.precision import at_least_float32


def guide(predictions: Sequence[Tensor], scales: Sequence[Tensor | float]) -> Tensor:
    """uncond + w·(cond - uncond), Ho & Salimans 2021, eq. 6, for two predictions and one scale w.

    For more of them each step towards more knowledge has a scale of its own:
    p₀ + w₁·(p₁ - p₀) + w₂·(p₂ - p₁) + …, Brooks et al. 2023, eq. 3. One alone is left as it is.
    """
    shapes = {tuple(prediction.shape) for prediction in predictions}
    if len(shapes) > 1:
        raise ValueError(f"expected predictions of one shape, got {sorted(shapes)}")
    said = [at_least_float32(prediction) for prediction in predictions]
    guided = said[0]
    for less, more, scale in zip(said[:-1], said[1:], scales, strict=True):
        guided = guided + scale * (more - less)
    return guided.to(predictions[0].dtype)


def summed_scales(scales: Sequence[float]) -> list[float]:
    """The scales with which `guide` adds guidances, each with its own: m + Σ (wᵢ - 1)·(m - lᵢ), if
    its predictions are l₁, …, lₙ, each of which knows less than the last, m.

    In steps from one to the next these are w₁, then w₁ + w₂ - 1, and so on: two guidances of
    scales 1.5 and 2 reach as far beyond m as one of 2.5.
    """
    return [1 + extra for extra in accumulate(scale - 1 for scale in scales)]


def unconditional(nothing: Tensor, conditions: Tensor) -> Tensor:
    """The condition that says nothing, (…), (1, …) or (N, …), for each of `conditions` (N, …)."""
    one = conditions.shape[1:]
    if nothing.shape not in (one, (1, *one), conditions.shape):
        expected, got = tuple(one), tuple(nothing.shape)
        raise ValueError(f"expected an empty condition of shape {expected}, got {got}")
    return nothing.expand_as(conditions)


def predict_guided(
    model: Callable[..., Tensor],
    x: Tensor,
    timesteps: Tensor,
    *conditions: Tensor,
    scales: Sequence[Tensor | float],
) -> Tensor:
    """What the model says of x (N, ...) with guidance, asked once, all conditions in one batch.

    timesteps: () or (N,). conditions: each (K, N, ...), from what tells the model least to what
    tells it most; scales: K - 1 of them, none for no guidance.
    """
    count = len(scales) + 1
    for condition in conditions:
        if condition.shape[:2] != (count, len(x)):
            got = tuple(condition.shape)
            raise ValueError(
                f"expected conditions ({count}, {len(x)}, …) of {len(x)} samples and "
                f"{len(scales)} scales, got {got}"
            )
    if timesteps.ndim:
        timesteps = timesteps.repeat(count)
    told = [condition.flatten(0, 1) for condition in conditions]
    predictions = model(torch.cat([x] * count), timesteps, *told).chunk(count)
    return guide(predictions, scales)
