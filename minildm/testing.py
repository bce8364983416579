"""Are two models the same? The check that every chapter makes of what it has built by hand; and
how long a chapter trains (`pace`). Chapter 00."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minildm.state_dicts import describe_mismatch


def pace(course: int, test: int) -> int:
    """How many steps a chapter trains: `course`, what a reader sees; `test` if MINILDM_PACE is
    "test" (make test)."""
    chosen = os.environ.get("MINILDM_PACE", "course")
    if chosen not in ("course", "test"):
        raise ValueError(f"expected MINILDM_PACE to be course or test, got {chosen!r}")
    return course if chosen == "course" else test


class Parity(NamedTuple):
    """The largest errors found, each relative to the largest value that it was compared with."""

    output64: float
    gradient64: float
    output32: float
    gradient32: float

    def __str__(self) -> str:
        return (
            f"same outputs (to {self.output64:.0e} in float64, {self.output32:.0e} in float32) and "
            f"same gradients (to {self.gradient64:.0e}, {self.gradient32:.0e})"
        )


@torch.no_grad()
def randomise_(
    module: nn.Module, generator: torch.Generator | None = None, scale: float = 1.0
) -> nn.Module:
    """Give every parameter a random value, in place, and return the module.

    A layer that starts at zero would make any two models agree there. Weights lie around 0 with a
    deviation of `scale`/√fan-in, which at 1 keeps the size of what passes through; norms' weights
    lie around 1, biases around 0.
    """
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            noise *= scale * parameter[0].numel() ** -0.5
        else:
            noise = 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)
        parameter.copy_(noise)
    return module


def assert_parity(
    ours: nn.Module,
    theirs: nn.Module,
    inputs: Sequence[Tensor | float],
    call_ours: Callable[..., Tensor] | None = None,
    call_theirs: Callable[..., Tensor] | None = None,
    seed: int = 0,
) -> Parity:
    """Randomise `theirs`, load it strictly into `ours`, and compare outputs and all gradients.

    In float64 to 1e-9 and in float32 to 1e-5 of the largest value. `inputs` are the positional
    arguments; gradients are those of every parameter and every floating-point input.
    `call_ours(model, *inputs)` and `call_theirs` say how to get the tensor where calling the model
    and taking its output (or the first of its outputs) is not it. Raises AssertionError saying what
    differs and by how much; returns the largest errors. Both models stay untouched.
    """
    errors = []
    # Weights of half the size that keeps the size of what passes through: at the whole of it a
    # square matrix stretches some directions to twice their length (Marchenko & Pastur 1967), and a
    # deep stack of them blows rounding up, with one processor's kernels more than with another's,
    # until float32 says nothing.
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        reference = randomise_(
            copy.deepcopy(theirs).float(), torch.Generator().manual_seed(seed), scale=0.5
        )
        reference = reference.to(dtype).eval()
        model = copy.deepcopy(ours).to(dtype).eval()
        if mismatch := describe_mismatch(model.state_dict(), reference.state_dict()):
            raise AssertionError(f"the other model's state_dict does not fit: {mismatch}")
        model.load_state_dict(reference.state_dict())
        got = outputs_and_gradients(model, inputs, call_ours, dtype)
        expected = outputs_and_gradients(reference, inputs, call_theirs, dtype)
        errors += [
            compare(got[:1], expected[:1], tolerance),
            compare(got[1:], expected[1:], tolerance),
        ]
    return Parity(*errors)


Named = list[tuple[str, Tensor]]


def outputs_and_gradients(
    model: nn.Module, inputs: Sequence, call: Callable | None, dtype: torch.dtype
) -> Named:
    """The output, then the gradients of a fixed random projection of it, each with its name."""
    inputs = [
        x.detach().to(dtype).requires_grad_() if torch.is_tensor(x) and x.is_floating_point() else x
        for x in inputs
    ]
    output = model(*inputs) if call is None else call(model, *inputs)
    output = output if torch.is_tensor(output) else output[0]
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    model.zero_grad()
    (output * weights).sum().backward()
    leaves = [
        (f"input {i}", x) for i, x in enumerate(inputs) if torch.is_tensor(x) and x.requires_grad
    ]
    leaves += list(model.named_parameters())
    gradients = [
        (f"gradient of {name}", torch.zeros_like(x) if x.grad is None else x.grad)
        for name, x in leaves
    ]
    return [("output", output.detach()), *gradients]


def compare(got: Named, expected: Named, tolerance: float) -> float:
    """The largest error, relative to each tensor's maximum; AssertionError beyond the tolerance.

    A gradient that is zero on paper (that of a key's bias) is nothing but the rounding of larger
    ones, so no maximum counts as less than a tenth of the largest.
    """
    expected_by_name = dict(expected)
    floor = 0.1 * max(float(tensor.detach().abs().max()) for tensor in expected_by_name.values())
    worst = 0.0
    for name, tensor in got:
        other = expected_by_name[name]
        if tensor.shape != other.shape:
            raise AssertionError(
                f"{name}: expected the shape {tuple(other.shape)}, got {tuple(tensor.shape)}"
            )
        error = float((tensor - other).abs().max()) / max(float(other.abs().max()), floor, 1e-30)
        if not error <= tolerance:  # NaN too
            raise AssertionError(
                f"{name}: differs by {error:.1e} of its maximum, more than {tolerance:.0e}"
            )
        worst = max(worst, error)
    return worst
