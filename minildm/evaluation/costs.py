"""What a network costs: parameters, floating-point operations and memory of a training step,
counted and not timed; the memory of a call, measured. Chapters 07 and 19.

Counting is done on the meta device, whose tensors have a shape and no content: a network that fits
into no memory is counted in a second. A multiplication and an addition are two operations; only
matrix products and convolutions are counted.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Call = Callable[..., Tensor]


class Cost(NamedTuple):
    """Of one call of a network with given inputs."""

    parameters: int
    flops: int
    """Of the call itself, which is what sampling pays."""
    training_flops: int
    """Of the call and its gradients."""
    kept: int
    """Bytes that a training step keeps from the way there for the way back, in float32, attention's
    matrix included."""


def peak_memory(call: Callable[[], object]) -> int:
    """Bytes: the most that `call()` held at any moment beyond what was there before, its result
    included, on a CPU.

    Unlike a count on the meta device it is a measurement, of every tensor and of what the kernels
    hold inside.
    """
    with no_stderr():
        profiler = torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        )
        profiler.start()
    try:
        result = call()
    finally:
        with no_stderr():
            profiler.stop()
    del result
    # Only the trace that the profiler writes has every single allocation; in `profiler.events()`
    # what an operation takes and gives back within itself cancels out.
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        with no_stderr():
            profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    # one device alone is profiled: the CPU
    changes = [(e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]"]
    changes.sort(key=lambda change: change[0])
    return max([0, *accumulate(size for _, size in changes)])


@contextmanager
def no_stderr() -> Iterator[None]:
    """Nothing that a library writes there by itself is seen: the profiler's own notes are no
    concern of the reader."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def cost(model: nn.Module, *inputs: Tensor, call: Call | None = None) -> Cost:
    """Count `model(*inputs)`, or `call(model, *inputs)`; the model stays untouched and nothing is
    computed.

    inputs: tensors on any device, of which only shapes and types count:
        `torch.empty(1, 4, 64, 64, device="meta")`.
    """
    model = copy.deepcopy(model).to("meta").requires_grad_()
    inputs = tuple(x.to("meta") for x in inputs)
    call = call or (lambda model, *inputs: model(*inputs))

    with FlopCounterMode(display=False) as there, torch.no_grad():
        call(model, *inputs)

    # Each storage once, and held, so that no other takes its number. On the meta device storages
    # have no address (data_ptr is 0): their own pointer is all that tells them apart.
    kept: dict[int, Tensor] = {}
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage()._cdata] = x
        return x

    with (
        FlopCounterMode(display=False) as both,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
    ):
        call(model, *inputs).sum().backward()
    size = sum(x.untyped_storage().nbytes() for key, x in kept.items() if key not in own)
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        flops=there.get_total_flops(),
        training_flops=both.get_total_flops(),
        kept=size,
    )
