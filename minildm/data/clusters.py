"""k-means (Lloyd 1982; Arthur & Vassilvitskii 2007): labels for pictures that nobody has labelled,
by which a network learns to look at them (Caron et al. 2018). Chapter 18."""

from __future__ import annotations

import torch
from torch import Tensor

CLUSTERS = 10
PER_CLUSTER = 8  # so many examples at least, on average


def k_means(points: Tensor, clusters: int = CLUSTERS, rounds: int = 20, seed: int = 0) -> Tensor:
    """The middles of groups of points, (up to `clusters`, D), of points (N, D).

    Fewer groups where there are few points. The first middles are drawn far from each other, each
    by its squared distance to those before it.
    """
    clusters = max(1, min(clusters, len(points) // PER_CLUSTER))
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(len(points), (1,), generator=generator, device="cpu")
    centres = points[first.to(points.device)]
    while len(centres) < clusters:
        distance = _distances(points, centres).min(1).values.square().cpu()
        if not distance.any():  # fewer different points than that
            break
        chosen = torch.multinomial(distance, 1, generator=generator)
        centres = torch.cat([centres, points[chosen.to(points.device)]])
    for _ in range(rounds):
        label = nearest(points, centres)
        sums = torch.zeros_like(centres).index_add(0, label, points)
        count = label.bincount(minlength=len(centres))[:, None]
        centres = torch.where(count > 0, sums / count.clamp(min=1), centres)
    return centres


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """The number of each point's nearest centre, (N,)."""
    return _distances(points, centres).argmin(1)


def _distances(points: Tensor, centres: Tensor) -> Tensor:
    """(N, K), and 0 where two are the same: the faster way rounds."""
    return torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist")
