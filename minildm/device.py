"""The one choice of a device, cuda, mps or cpu, and how a chapter follows it. Chapter 00."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

VARIABLE = "MINILDM_DEVICE"
P = ParamSpec("P")
R = TypeVar("R")


def default_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is what MINILDM_DEVICE says, else the fastest that is here.

    One that is not here: a ValueError of one line.
    """
    count = torch.cuda.device_count()
    fast = ["cuda"] * (count > 0) + ["mps"] * torch.backends.mps.is_available()
    here = [*fast, "cpu", *(f"cuda:{i}" for i in range(count))]
    asked, where = name, "--device"
    if name == "auto":
        asked, where = os.environ.get(VARIABLE) or "auto", VARIABLE
    if asked not in ("auto", *here):
        raise ValueError(
            f"{where}: expected a device that is here (auto, {', '.join(here)}), got {asked!r}"
        )
    return torch.device(here[0] if asked == "auto" else asked)


def set_default_device(device: torch.device | str | None = None) -> torch.device:
    """From here on, new tensors, data and models are on `device`: by default `default_device()`.

    This is `torch.set_default_device`, except that random numbers are drawn on the CPU and then
    moved: a seed means the same noise and the same first weights on every device, and a plain
    `torch.Generator()` serves for all of them. On a CPU nothing changes. Apple's mps, which has no
    float64, is used only if MINILDM_DEVICE or `device` says so. A device that is not here: a
    ValueError, and the one chosen before stays.
    """
    chosen = default_device("auto" if device is None else str(device))
    if device is None and chosen.type == "mps" and not os.environ.get(VARIABLE):
        chosen = torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False  # float32 to all its digits: parity compares five
    # never None: torch 2.6 then has no default device to tell, and transformers asks for it
    if chosen != torch.get_default_device():
        torch.set_default_device(chosen)
    if chosen.type != "cpu":
        _DrawOnCPU.begin()
    else:
        _DrawOnCPU.end()
    return chosen


def on_cpu(function: Callable[P, R]) -> Callable[P, R]:
    """A function of tensors, wherever they are, that works on the CPU, all that NumPy and
    matplotlib know."""

    @functools.wraps(function)
    def moved(*args: P.args, **kwargs: P.kwargs) -> R:
        args, kwargs = tree_map(_to_cpu, args), tree_map(_to_cpu, kwargs)
        with torch.device("cpu"):
            return function(*args, **kwargs)

    return moved


# What makes random tensors, what takes after a tensor, and what fills one with random numbers.
MAKE = {torch.rand, torch.randn, torch.randint, torch.randperm}
LIKE = {
    torch.rand_like,
    torch.randn_like,
    torch.randint_like,
    torch.normal,
    torch.bernoulli,
    torch.multinomial,
    torch.poisson,
}
FILL = {
    Tensor.uniform_,
    Tensor.normal_,
    Tensor.random_,
    Tensor.bernoulli_,
    Tensor.exponential_,
    nn.init.uniform_,
    nn.init.normal_,
    nn.init.kaiming_uniform_,
}


class _DrawOnCPU(TorchFunctionMode):
    """Random numbers for another device come from the CPU's generators."""

    running: _DrawOnCPU | None = None  # a second one inside the first would be of no use

    @classmethod
    def begin(cls) -> None:
        if cls.running is None:
            cls.running = cls()
            cls.running.__enter__()

    @classmethod
    def end(cls) -> None:
        if cls.running is not None:
            cls.running.__exit__(None, None, None)
            cls.running = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        own = options.get("generator")
        if func not in MAKE | LIKE | FILL or (own is not None and own.device.type != "cpu"):
            return func(*args, **options)
        if func in MAKE:
            if options.get("device") is not None:
                return func(*args, **options)
            requires_grad = options.pop("requires_grad", False)
            drawn = func(*args, **options, device="cpu").to(torch.get_default_device())
            return drawn.requires_grad_(requires_grad)
        given = [part for part in (*args, *options.values()) if torch.is_tensor(part)]
        moved = [part.device for part in given if part.device.type not in ("cpu", "meta")]
        if not moved:
            return func(*args, **options)
        drawn = func(*tree_map(_to_cpu, args), **tree_map(_to_cpu, options))
        if func in FILL:
            with torch.no_grad():
                return given[0].copy_(drawn)
        return drawn.to(moved[0])


def _to_cpu(value: Any) -> Any:
    return value.cpu() if torch.is_tensor(value) else value
