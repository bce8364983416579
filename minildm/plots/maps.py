"""Semantic maps as pictures: a colour for each class, which says nothing but which class it is.
Chapter 10."""

from __future__ import annotations

import torch
from torch import Tensor

# For the digits 0 to 9 and the ground; brighter and darker in turn, so that neighbours differ
# without colour too.
MAP_COLOURS = (
    "#88ccee", "#332288", "#ddcc77", "#117733", "#cc6677", "#44aa99", "#882255", "#999933", "#661100", "#aa4499",
    "#f2f2f2",
)  # fmt: skip


def map_pictures(maps: Tensor, colours: tuple[str, ...] = MAP_COLOURS) -> Tensor:
    """Maps (N, H, W) of integers, each a number into `colours` ("#rrggbb"), as pictures (N, 3, H,
    W) in [-1, 1]."""
    if maps.ndim != 3 or maps.is_floating_point():
        raise ValueError(f"expected integer maps (N, H, W), got {tuple(maps.shape)} {maps.dtype}")
    if maps.numel() and not 0 <= int(maps.min()) <= int(maps.max()) < len(colours):
        raise ValueError(
            f"expected classes from 0 to {len(colours) - 1}, got {int(maps.min())} to {int(maps.max())}"
        )
    table = torch.tensor([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours])
    return (table / 127.5 - 1)[maps.long()].movedim(3, 1)
