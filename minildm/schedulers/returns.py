"""What a scheduler's step returns is x itself, which those hear who ask for diffusers' return_dict
(von Platen et al. 2022). Chapter 05."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from torch import Tensor

from minildm.configuration.keywords import check_foreign

Arguments = ParamSpec("Arguments")


def tensor_only(step: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """The same step, which refuses `return_dict` with a word on what to write."""

    @functools.wraps(step)
    def told(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        if "return_dict" in kwargs:
            check_foreign("step", {"return_dict": kwargs["return_dict"]})
        return step(*args, **kwargs)

    return told
