"""Sixteen bits are enough for what a network says, and not for adding it up: bfloat16 has three
digits, and 1 - ᾱ of nearly clean pictures is 0 (Micikevicius et al. 2018). Chapter 19.

Whatever the type of the samples, tables, steps and averages are therefore computed in float32, or
in float64 where samples are, and only the result is rounded to the samples' type.
"""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """x itself if it is in float32 or float64, else x in float32; any shape."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_precision(x: Tensor, name: str, dtype: torch.dtype) -> None:
    """ValueError unless x is of the type of a network's weights; autocast sees to it by itself."""
    kind = x.device.type
    if x.dtype != dtype and not (
        torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    ):
        raise ValueError(f"expected {name} of {dtype}, as the weights are, got {x.dtype}")
