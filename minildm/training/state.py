"""What a training carries from step to step: an average of the weights, a file from which it goes
on bit for bit, and a record of what it did (Polyak & Juditsky 1992; Ho et al. 2020).
Chapters 03 and 20.

The state is safetensors, not what `torch.save` or accelerate's `save_state` write: those are
pickles, and opening a stranger's pickle runs the stranger's code. A safetensors file holds named
tensors and nothing else, so the optimizer's state is taken out and put back tensor by tensor.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from minildm.files import read_json, read_metadata, read_tensors, write_json, write_tensors
from minildm.precision import at_least_float32
from minildm.state_dicts import describe_mismatch, describe_nonfinite

STATE_FILE = "training_state.safetensors"


class EMA:
    """An exponential moving average of weights, which draws better than the weights themselves (Ho
    et al. 2020, §4).

    Its memory reaches over the last `horizon` steps; at the start over fewer, so random weights are
    soon forgotten. Of weights in half precision it is kept in float32: what a step adds to it is
    less than half precision can tell.
    """

    def __init__(self, parameters: Iterable[Tensor], horizon: float):
        self.parameters = list(parameters)
        self.horizon = max(1.0, horizon)
        self.shadow_params = [at_least_float32(p.detach()).clone() for p in self.parameters]

    def get_decay(self, step: int) -> float:
        """How much of the average stays at this step."""
        return min(1 - 1 / self.horizon, (1 + step) / (10 + step))

    def update(self, step: int) -> None:
        """Let the average follow what this step made of the weights."""
        lerp = get_ema_multi_avg_fn(self.get_decay(step))  # all tensors in one call
        lerp(self.shadow_params, [at_least_float32(p) for p in self.parameters], step)

    @torch.no_grad()
    def copy_to(self, parameters: Iterable[Tensor]) -> None:
        """Give these parameters, in the order of those averaged, the average."""
        given = {f"parameter {i}": parameter for i, parameter in enumerate(parameters)}
        averages = {f"parameter {i}": average for i, average in enumerate(self.shadow_params)}
        if mismatch := describe_mismatch(averages, given):
            raise ValueError(f"expected the parameters that were averaged, got {mismatch}")
        for name, parameter in given.items():
            parameter.copy_(averages[name])


def state_tensors(
    loss: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA | None
) -> dict[str, Tensor]:
    """Every tensor that training changes, by name; none is copied, so that filling them restores
    the state."""
    tensors = {f"loss.{name}": tensor for name, tensor in loss.state_dict().items()}
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper holds the real one
    for i, parameter in enumerate(inner.param_groups[0]["params"]):
        state = inner.state[parameter]
        if not state:  # before the first step: what AdamW would make
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in state.items()}
    averages = ema.shadow_params if ema else []
    return tensors | {f"ema.{i}": average for i, average in enumerate(averages)}


def save_state(
    file: Path,
    stage: str,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: EMA | None,
    losses: list[float],
    seconds: float,
    steps: int,
) -> None:
    """Write all that `load_state` needs to go on from here. steps: those of the whole stage."""
    past = {
        "losses": torch.tensor(losses, dtype=torch.float64),
        "seconds": torch.tensor(seconds, dtype=torch.float64),
    }
    about = {"stage": stage, "steps": str(steps)}
    write_tensors(file, state_tensors(loss, optimizer, ema) | past, about)


@torch.no_grad()
def load_state(
    file: Path,
    stage: str,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: EMA | None,
    steps: int,
) -> tuple[list[float], float]:
    """Fill network, optimizer and average from the file; returns the losses so far and the seconds
    that they took: none if it is of another stage. A stage of another number of steps, whose
    learning rate falls elsewhere, is a ValueError."""
    again = "delete it to start again"
    try:
        about = read_metadata(file, "a training state")
        if about.get("stage", stage) != stage:
            return [], 0.0
        stored = read_tensors(file, "a training state")
    except ValueError as error:
        raise ValueError(f"{error}; {again}") from None
    if about.get("steps", str(steps)) != str(steps):
        raise ValueError(
            f"{file}: expected the training state of {steps} steps of {stage}, "
            f"got one of {about['steps']}; {again}"
        )
    tensors = state_tensors(loss, optimizer, ema)
    done = stored.get("losses", torch.zeros(0)).numel()
    past = {"losses": torch.zeros(done).double(), "seconds": torch.zeros(()).double()}
    fault = describe_mismatch(tensors | past, stored) or describe_nonfinite(stored)
    if fault := fault or describe_impossible(tensors | past, stored, min(done, steps)):
        raise ValueError(
            f"{file}: expected the training state of this recipe's {stage}, got {fault}; {again}"
        )
    for name, tensor in tensors.items():
        tensor.copy_(stored[name])
    return stored["losses"].tolist(), stored["seconds"].item()


def describe_impossible(
    expected: Mapping[str, Tensor], got: Mapping[str, Tensor], done: int
) -> str:
    """The first of the tensors that no training leaves after `done` steps, in a few words; "" if
    there is none: one of another precision, or a number that is too small or too large."""
    for key, tensor in got.items():
        if tensor.dtype != expected[key].dtype:
            return f"{key} of {tensor.dtype} instead of {expected[key].dtype}"
        if key.endswith((".step", ".exp_avg_sq")) or key == "seconds":
            if tensor.min() < 0 or (key.endswith(".step") and tensor > done):
                return f"{key} of {tensor.min():g} after {done} steps"
    if len(got["losses"]) > done:
        return f"{len(got['losses'])} losses of {done} steps"
    return ""


def load_weights(file: Path, model: nn.Module) -> None:
    """Fill a network with the weights that a finished stage left in the file."""
    weights = read_tensors(file, "the weights of a finished stage")
    if fault := describe_mismatch(model.state_dict(), weights) or describe_nonfinite(weights):
        raise ValueError(f"{file}: expected the weights of this recipe's network, got {fault}")
    model.load_state_dict(weights)


def open_log(
    file: Path, asked: dict[str, Any], device: torch.device, processes: int, resume: bool
) -> dict[str, Any]:
    """The record of a training: the one in the file if it is to be resumed, else a new one.

    asked: the recipe, the seed, the minutes, the steps of each stage ({} if time decides), the
        snapshot if there is to be one, and the data if they are one's own. To go on they must be
        those of the record, minutes apart, on as many threads: a ValueError says what differs.
        Steps or snapshot may go unsaid, and a folder may have another name.
    """
    threads = torch.get_num_threads()
    if not file.is_file():
        if (state := file.parent / STATE_FILE).is_file():
            raise ValueError(
                f"{state} is of a training whose record, {file.name}, is gone: delete it to start "
                "again, or choose another --out"
            )
        surroundings = {
            "hardware": hardware(device),
            "threads": threads,
            "processes": processes,
            "torch": torch.__version__,
        }
        log = {**asked, "seconds": {}, "losses": {}, **surroundings, "finished": False}
        write_json(file, log)  # before the first step, or the state would be nobody's
        return log
    if not resume:
        check_unused(file)
    log = read_json(file, "the record of a training")
    check_record(file, log)
    if log["seed"] != asked["seed"]:
        raise ValueError(f"{file}: expected to go on with seed {log['seed']}, got {asked['seed']}")
    snapshot = log.get("snapshot")
    if (got := asked.get("snapshot", snapshot)) != snapshot:
        expected = "no snapshot" if snapshot is None else f"a snapshot after {snapshot:g}"
        raise ValueError(f"{file}: expected to go on with {expected}, got one after {got:g}")
    check_same_pictures(file, log.get("data", {}), asked.get("data", {}))
    theirs, ours = log["recipe"], asked["recipe"]
    if other := sorted(key for key in theirs | ours if theirs.get(key) != ours.get(key)):
        raise ValueError(
            f"{file}: expected a training of this recipe, got one with another {', '.join(other)}"
        )
    if asked["steps"] not in ({}, log["steps"]):
        recorded = ",".join(map(str, log["steps"].values())) or "none yet"
        raise ValueError(
            f"{file}: expected the recorded steps ({recorded}) or none, to go on; got other steps"
        )
    if log["threads"] != threads:
        raise ValueError(
            f"{file}: expected {log['threads']} threads as before, got {threads}, "
            f"whose sums round differently (set OMP_NUM_THREADS={log['threads']})"
        )
    return log


def check_record(file: Path, log: Mapping[str, object]) -> None:
    """ValueError unless this is the record of a training, as `open_log` made it and `runs.py`
    filled it."""
    kinds: dict[str, Callable[[Any], bool]] = {
        "recipe": lambda recipe: isinstance(recipe, dict),
        "seed": is_count,
        "minutes": lambda minutes: minutes is None or is_number(minutes),
        "steps": lambda steps: isinstance(steps, dict) and all(map(is_count, steps.values())),
        "seconds": lambda spent: isinstance(spent, dict) and all(map(is_number, spent.values())),
        "losses": lambda losses: isinstance(losses, dict),
        "threads": is_count,
        "finished": lambda finished: isinstance(finished, bool),
    }
    if missing := kinds.keys() - log.keys():
        raise ValueError(
            f"{file}: expected the record of a training, "
            f"got one without {', '.join(sorted(missing))}"
        )
    where_it_is: dict[str, Callable[[Any], bool]] = {
        "snapshot": lambda part: is_number(part) and 0 < part <= 1,
        "data": lambda data: (
            isinstance(data, dict)
            and is_count(data.get("pictures"))
            and isinstance(data.get("fingerprint"), str)
        ),
    }
    kinds |= {key: fits for key, fits in where_it_is.items() if key in log}
    for key, fits in kinds.items():
        if not fits(log[key]):
            raise ValueError(f"{file}: expected the record of a training, got {key} {log[key]!r}")


def is_count(value: object) -> bool:
    """A whole number of 0 or more."""
    return type(value) is int and value >= 0


def is_number(value: object) -> bool:
    """Finite and 0 or more."""
    return not isinstance(value, bool) and isinstance(value, (int, float)) and 0 <= value < math.inf


def check_unused(file: Path) -> None:
    """ValueError if this record of a training exists."""
    if file.is_file():
        raise ValueError(
            f"{file.parent} holds a training already: --resume goes on with it, "
            "another --out begins one"
        )


def check_same_pictures(
    file: Path, theirs: Mapping[str, object], ours: Mapping[str, object]
) -> None:
    """ValueError if a record describes other pictures, or the same made square in another way."""
    if theirs.get("fingerprint") == ours.get("fingerprint"):
        return
    settings = theirs.keys() & ours.keys() - {"name", "pictures", "classes", "fingerprint"}
    if other := sorted(key for key in settings if theirs[key] != ours[key]):
        expected, got = (
            ", ".join(f"{key} {data[key]}" for key in other) for data in (theirs, ours)
        )
        raise ValueError(f"{file}: expected to go on with {expected}, got {got}")
    raise ValueError(
        f"{file}: expected to go on with the pictures of before, {in_words(theirs)}, "
        f"got {in_words(ours)}"
    )


def in_words(data: Mapping[str, object]) -> str:
    """The pictures that a record describes."""
    if not data:
        return "those that the recipe names"
    name = f"{data['name']}: " if "name" in data else ""
    return f"{name}{data['pictures']:,} with the fingerprint {data['fingerprint']}"


def hardware(device: torch.device) -> str:
    """The processor or the accelerator, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
