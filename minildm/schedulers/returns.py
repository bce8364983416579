"""What a scheduler's step returns is x itself, which those hear who ask for diffusers' return_dict
(von Platen et al. 2022). Chapter 05."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from torch import Tensor

Arguments = ParamSpec("Arguments")


def tensor_only(step: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """The same step, which refuses `return_dict` with a word on what to write."""

    @functools.wraps(step)
    def told(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        if "return_dict" in kwargs:
            instead = "step returns x itself, so leave out .prev_sample and [0], too"
            raise ValueError(
                f"expected no return_dict, got {kwargs['return_dict']!r:.40}; {instead}"
            )
        return step(*args, **kwargs)

    return told
