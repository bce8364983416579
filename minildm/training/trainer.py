"""A training loop that can be stopped at any moment and goes on bit for bit, on one processor or on
many devices (Loshchilov & Hutter 2019). Chapter 03 writes it small; `runs.py` trains the whole
chain with it.
"""

from __future__ import annotations

import copy
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from minildm.device import default_device
from minildm.training.batches import Batch
from minildm.training.state import EMA, STATE_FILE, load_state, save_state

if TYPE_CHECKING:
    from accelerate import Accelerator

SAVE_EVERY = 15  # seconds of work that a kill can cost


def learning_rate_at(step: int, steps: int, peak: float, warmup: float = 0.05) -> float:
    """A straight climb over the first `warmup` of the steps, then half a cosine down to zero
    (Loshchilov & Hutter 2017)."""
    climb = max(1, round(warmup * steps))
    if step < climb:
        return peak * (step + 1) / climb
    return peak * 0.5 * (1 + math.cos(math.pi * (step - climb) / max(1, steps - climb)))


class Trainer:
    """One network's training: `loss(*batch(step))` is a number, `steps` of AdamW make it small.

    name: of the training, in its progress bar, its state on disk and its errors
    loss: a module whose forward gives the loss and whose trainable parameters are trained
    batch: step -> the tensors of the global batch, each (batch_size, …); a process takes every n-th
        row
    ema: the fraction of the steps that the average of the weights reaches over; 0 for no average
    after_step: an attribute, is told each step that is done and the average so far; before a state
        that holds the step is written, so what it keeps, a resumed training need not make again
    """

    after_step: Callable[[int, EMA | None], None] | None = None

    def __init__(
        self,
        name: str,
        loss: nn.Module,
        batch: Callable[[int], Batch],
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.01,
        ema: float = 0.0,
    ):
        self.name = name
        self.loss = loss
        self.batch = batch
        self.learning_rate = learning_rate
        self.betas = betas
        self.weight_decay = weight_decay
        self.ema = ema
        self.seconds = 0.0  # spent on its steps, also on those before an interruption

    def create_optimizer(self, loss: nn.Module) -> torch.optim.AdamW:
        """AdamW (Loshchilov & Hutter 2019) of what the loss lets train."""
        return torch.optim.AdamW(
            trainable(loss),
            lr=self.learning_rate,
            betas=self.betas,
            weight_decay=self.weight_decay,
            fused=True,
        )

    def steps_within(self, seconds: float, device: torch.device, processes: int = 1) -> int:
        """How many steps fit, from the time that the first ones take on a copy which is then thrown
        away. processes: that share each batch."""
        loss_of = copy.deepcopy(self.loss).to(device)
        optimizer = self.create_optimizer(loss_of)
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < 5 or (time.perf_counter() - begin < 0.02 * seconds and len(times) < 20):
            start = time.perf_counter()
            loss = loss_of(*(part[::processes].to(device) for part in self.batch(len(times))))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()  # waits for the device
            times.append(time.perf_counter() - start)
        return max(1, int((seconds - sum(times)) / statistics.median(times[2:])))

    def train(
        self,
        steps: int,
        folder: Path | None = None,
        accelerator: Accelerator | None = None,
        progress: bool = True,
    ) -> list[float]:
        """Train for `steps`, resuming from the state in `folder` if there is one; returns the loss
        of every step.

        With a folder, the state is written there every few seconds and after Ctrl-C, which is
        raised again.
        """
        device, rank, world = next(self.loss.parameters()).device, 0, 1
        if accelerator is not None:
            device = accelerator.device
            rank, world = accelerator.process_index, accelerator.num_processes

        module = self.loss.to(device).train()
        optimizer = self.create_optimizer(module)
        ema = EMA(trainable(module), horizon=self.ema * steps) if self.ema else None
        losses: list[float] = []
        if folder is not None and (folder / STATE_FILE).is_file():
            file = folder / STATE_FILE
            losses, self.seconds = load_state(file, self.name, module, optimizer, ema, steps)

        loss_of, backward, clip_grad_norm = module, Tensor.backward, nn.utils.clip_grad_norm_
        if accelerator is not None:
            loss_of, optimizer = accelerator.prepare(module, optimizer)
            backward = accelerator.backward
            clip_grad_norm = accelerator.clip_grad_norm_  # undoes float16's scaling first

        saved = time.monotonic()
        started = saved - self.seconds
        bar = tqdm(
            range(len(losses), steps),
            desc=self.name,
            total=steps,
            initial=len(losses),
            disable=not progress or rank > 0,
        )
        with stop_signal() as stopping, bar:
            for step in bar:
                # ---- a single training step ----
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate_at(step, steps, self.learning_rate)
                loss = loss_of(*(part[rank::world].to(device) for part in self.batch(step)))
                backward(loss)
                clip_grad_norm(module.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                if ema is not None:
                    ema.update(step)
                # --------------------------------
                if self.after_step is not None:
                    self.after_step(step, ema)
                losses.append(mean_over_processes(loss.detach(), accelerator))
                if not math.isfinite(losses[-1]):
                    raise ValueError(
                        f"{self.name}: the loss of step {step} is {losses[-1]}; "
                        "try a lower learning rate"
                    )
                bar.set_postfix(loss=f"{statistics.fmean(losses[-20:]):.4f}", refresh=False)
                due = stopping() or time.monotonic() - saved > SAVE_EVERY
                if due and folder is not None and rank == 0:
                    self.seconds = time.monotonic() - started
                    file = folder / STATE_FILE
                    save_state(file, self.name, module, optimizer, ema, losses, self.seconds, steps)
                    saved = time.monotonic()
                if stopping():
                    raise KeyboardInterrupt
        if ema is not None:
            ema.copy_to(trainable(module))
        module.eval()
        self.seconds = time.monotonic() - started
        return losses


def open_accelerator(
    device: str, mixed_precision: str | None, batch_sizes: tuple[int, ...]
) -> Accelerator:
    """The device asked for, and the processes that share batches of these sizes."""
    from accelerate import Accelerator  # slow to import, and only training needs it

    chosen = default_device(device)
    accelerator = Accelerator(cpu=chosen.type == "cpu", mixed_precision=mixed_precision)
    here, processes = accelerator.device.type, accelerator.num_processes
    elsewhere = device != "auto" and chosen.type != here
    if elsewhere or chosen.index is not None:  # accelerate says which GPU a process takes
        raise ValueError(f"expected a device that is here (auto or {here}), got {device!r}")
    if any(size % processes for size in batch_sizes):
        raise ValueError(
            f"expected a number of processes that divides the batches of {batch_sizes}, "
            f"got {processes}"
        )
    return accelerator


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes."""
    return [p for p in module.parameters() if p.requires_grad]


def mean_over_processes(loss: Tensor, accelerator: Accelerator | None) -> float:
    """A process sees a share of the batch; all of them together have its loss."""
    if accelerator is None or accelerator.num_processes == 1:
        return loss.item()
    mean = accelerator.reduce(loss, "mean")
    assert isinstance(mean, Tensor)  # of a tensor; of a mapping it would be a mapping
    return mean.item()


@contextmanager
def stop_signal() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and `kill` wait for the end of the step; a second one does not. Gives a function: was
    there one?"""
    received = False

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if received:
            raise KeyboardInterrupt
        received = True

    try:
        before = {
            number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # only the main thread may; elsewhere signals keep their meaning
        before = {}
    try:
        yield lambda: received
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
