"""A training loop that can be stopped at any moment: batches from the step's number, an average of
the weights, and a state on disk from which it goes on bit for bit. Chapter 03 writes it small;
`runs.py` trains the whole chain with it.

Everything random about a step is drawn from a generator seeded by (seed, stage, step). That one
habit makes a resumed run see what an uninterrupted one sees, and lets several processes each take
their share of the very same batch.
"""

from __future__ import annotations

import copy
import math
import signal
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm.auto import tqdm

from minildm.files import write_tensors

if TYPE_CHECKING:
    from accelerate import Accelerator

Batch = tuple[Tensor, ...]
SAVE_EVERY = 15  # seconds of work that a kill can cost
STATE_FILE = "training_state.safetensors"


def step_generator(seed: int, stage: str, step: int) -> torch.Generator:
    """The source of everything random in one step of one stage."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {stage} {step}".encode()))


def batch_indices(num_examples: int, batch_size: int, seed: int, stage: str, step: int) -> Tensor:
    """Which examples the step sees, (batch_size,): epoch after epoch, each in an order of its
    own."""
    positions = torch.arange(step * batch_size, (step + 1) * batch_size)
    epochs = (positions // num_examples).unique().tolist()
    orders = torch.cat([_shuffled(num_examples, seed, stage, epoch) for epoch in epochs])
    return orders[positions - epochs[0] * num_examples]


def spread_timesteps(
    batch_size: int, generator: torch.Generator, num_train_timesteps: int = 1000
) -> Tensor:
    """Timesteps spread evenly over all of them, (batch_size,), not drawn one by one: each is as
    likely as the others, and a batch's mean loss varies less (Kingma et al. 2021, appendix I.1)."""
    evenly = (torch.rand((), generator=generator) + torch.arange(batch_size) / batch_size) % 1
    return (evenly * num_train_timesteps).long()


@lru_cache(maxsize=2)
def _shuffled(num_examples: int, seed: int, stage: str, epoch: int) -> Tensor:
    return torch.randperm(num_examples, generator=step_generator(seed, f"{stage} epoch", epoch))


def learning_rate_at(step: int, steps: int, peak: float, warmup: float = 0.05) -> float:
    """A straight climb over the first `warmup` of the steps, then half a cosine down to zero
    (Loshchilov 2017)."""
    climb = max(1, round(warmup * steps))
    if step < climb:
        return peak * (step + 1) / climb
    return peak * 0.5 * (1 + math.cos(math.pi * (step - climb) / max(1, steps - climb)))


class EMA:
    """An exponential moving average of weights, which draws better than the weights themselves (Ho
    et al. 2020, §4).

    Its memory reaches over the last `horizon` steps; at the start over fewer, so random weights are
    soon forgotten.
    """

    def __init__(self, parameters: list[Tensor], horizon: float):
        self.parameters, self.horizon = parameters, max(1.0, horizon)
        self.average = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(1 - 1 / self.horizon, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        torch._foreach_copy_(self.parameters, self.average)


class Stage:
    """One network's training: `task(*batch(step))` is the loss, `steps` of AdamW make it small.

    task: a module whose forward gives the loss and whose trainable parameters are trained
    batch: step -> the tensors of the global batch, each (batch_size, …); a process takes every n-th
        row
    ema: the fraction of the steps that the average of the weights reaches over; 0 for no average
    """

    def __init__(
        self,
        name: str,
        task: nn.Module,
        batch: Callable[[int], Batch],
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.01,
        ema: float = 0.0,
    ):
        self.name, self.task, self.batch, self.ema = name, task, batch, ema
        self.seconds = 0.0  # spent on its steps, also on those before an interruption
        self.learning_rate, self.betas, self.weight_decay = learning_rate, betas, weight_decay

    def optimiser(self, task: nn.Module) -> torch.optim.AdamW:
        parameters = [p for p in task.parameters() if p.requires_grad]
        return torch.optim.AdamW(
            parameters,
            self.learning_rate,
            betas=self.betas,
            weight_decay=self.weight_decay,
            fused=True,
        )

    def steps_within(self, seconds: float, device: torch.device) -> int:
        """How many steps fit, from the time that the first ones take on a copy which is then thrown
        away."""
        task = copy.deepcopy(self.task).to(device)
        optimiser, times = self.optimiser(task), []
        spent = time.perf_counter()
        while len(times) < 5 or (time.perf_counter() - spent < 0.02 * seconds and len(times) < 20):
            start = time.perf_counter()
            loss = task(*(part.to(device) for part in self.batch(len(times))))
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            loss.item()  # waits for the device
            times.append(time.perf_counter() - start)
        return max(1, int((seconds - sum(times)) / statistics.median(times[2:])))

    def run(
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
        device = accelerator.device if accelerator else next(self.task.parameters()).device
        rank, world = (
            (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
        )
        task = self.task.to(device).train()
        optimiser = self.optimiser(task)
        ema = (
            EMA([p for p in task.parameters() if p.requires_grad], self.ema * steps)
            if self.ema
            else None
        )
        losses: list[float] = []
        if folder is not None and (folder / STATE_FILE).is_file():
            losses, self.seconds = load_state(folder / STATE_FILE, self.name, task, optimiser, ema)
        wrapped, backward = task, Tensor.backward
        if accelerator:
            wrapped, optimiser, backward = (
                *accelerator.prepare(task, optimiser),
                accelerator.backward,
            )

        saved = time.monotonic()
        started = saved - self.seconds
        bar = tqdm(
            range(len(losses), steps),
            self.name,
            steps,
            initial=len(losses),
            disable=not progress or rank > 0,
        )
        with stop_signal() as stopping, bar:
            for step in bar:
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate_at(step, steps, self.learning_rate)
                loss = wrapped(*(part[rank::world].to(device) for part in self.batch(step)))
                backward(loss)
                torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
                optimiser.step()
                optimiser.zero_grad()
                if ema:
                    ema.update(step)
                losses.append(
                    (accelerator.reduce(loss.detach(), "mean") if world > 1 else loss).item()
                )
                if not math.isfinite(losses[-1]):
                    raise ValueError(
                        f"{self.name}: the loss of step {step} is {losses[-1]}; try a lower learning rate"
                    )
                bar.set_postfix(loss=f"{statistics.fmean(losses[-20:]):.4f}", refresh=False)
                if (
                    folder is not None
                    and rank == 0
                    and (stopping() or time.monotonic() - saved > SAVE_EVERY)
                ):
                    self.seconds = time.monotonic() - started
                    save_state(
                        folder / STATE_FILE, self.name, task, optimiser, ema, losses, self.seconds
                    )
                    saved = time.monotonic()
                if stopping():
                    raise KeyboardInterrupt
        if ema:
            ema.copy_to_parameters()
        task.eval()
        self.seconds = time.monotonic() - started
        return losses


@contextmanager
def stop_signal() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and `kill` wait for the end of the step; a second one does not. Gives a function: was
    there one?"""
    received = False

    def handler(number: int, frame: Any) -> None:
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


def state_tensors(
    task: nn.Module, optimiser: torch.optim.Optimizer, ema: EMA | None
) -> dict[str, Tensor]:
    """Every tensor that training changes, by name; none is copied, so that filling them restores
    the state."""
    tensors = {f"task.{name}": tensor for name, tensor in task.state_dict().items()}
    inner = getattr(optimiser, "optimizer", optimiser)  # accelerate's wrapper holds the real one
    for i, parameter in enumerate(inner.param_groups[0]["params"]):
        state = inner.state[parameter]
        if not state:  # before the first step: what AdamW would make
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter) for _ in range(2))
        tensors |= {f"optimiser.{i}.{name}": tensor for name, tensor in state.items()}
    return tensors | {f"ema.{i}": tensor for i, tensor in enumerate(ema.average if ema else [])}


def save_state(
    file: Path,
    stage: str,
    task: nn.Module,
    optimiser: torch.optim.Optimizer,
    ema: EMA | None,
    losses: list[float],
    seconds: float,
) -> None:
    """Write all that `load_state` needs to go on from here."""
    past = {
        "losses": torch.tensor(losses, dtype=torch.float64),
        "seconds": torch.tensor(seconds, dtype=torch.float64),
    }
    write_tensors(file, state_tensors(task, optimiser, ema) | past, {"stage": stage})


@torch.no_grad()
def load_state(
    file: Path, stage: str, task: nn.Module, optimiser: torch.optim.Optimizer, ema: EMA | None
) -> tuple[list[float], float]:
    """Fill task, optimiser and average from the file; returns the losses so far and the seconds
    that they took: none if it is of another stage."""
    try:
        with safe_open(file, "pt") as stored:
            if (stored.metadata() or {}).get("stage") != stage:
                return [], 0.0
            tensors = state_tensors(task, optimiser, ema)
            if set(stored.keys()) != {*tensors, "losses", "seconds"}:
                raise ValueError(
                    f"{file}: expected the training state of this recipe's {stage}, got another's"
                )
            for name, tensor in tensors.items():
                tensor.copy_(stored.get_tensor(name))
            return stored.get_tensor("losses").tolist(), stored.get_tensor("seconds").item()
    except SafetensorError as error:
        raise ValueError(
            f"{file}: expected a whole training state, got: {error}; delete it to start again"
        ) from None
