"""What `abuse.py` throws at the package: for each surface a function that makes an input of a
random number, and says what has to come of it.

An input's oracle stands beside it: a set of what is right for an argument (`accepts`), the pictures
and ids of the undamaged files, the exit status. It is computed here and never by the package.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from minildm.data import from_pixels, to_pixels  # noqa: E402
from minildm.diffusion import guide, make_betas, sample  # noqa: E402
from minildm.pipelines import StableDiffusionPipeline  # noqa: E402
from minildm.schedulers import SAMPLERS  # noqa: E402
from minildm.text import BOS, EOS, CLIPTokenizer  # noqa: E402

NAN, INF = float("nan"), float("inf")
SMALL = [0, 1, 2, 3, 7, -1, -2, 0.5, 2.5, 1.0, -0.5, 1e-12, NAN, INF, -INF]
LARGE = [10**6, 10**9, 10**30, -(10**30), 1e39, 1e308, -1e39]
FROM_NUMPY = [np.int64(2), np.float32(0.5), np.bool_(True), np.float64(NAN)]
OTHERS = [None, True, False, "", "2", "seven", b"x", [], [2], (1, 2), [[]], {}, {"a": 1}, 1j]
TENSORS = [torch.tensor(2), torch.tensor(0.5), torch.zeros(2), torch.tensor(NAN), torch.zeros(0)]
OF_JSON = [None, True, False, 0, 1, 7, -1, 0.5, NAN, INF, 10**30, 1e39, -1e39, "", "seven"]
OF_JSON += [[], [1], [[]], ["x"], [None], {}, {"a": 1}, {"a": []}]


@dataclass
class Input:
    """told: in words. act: does it. right: whether it has to work, or None if either will do.
    fault: what is wrong with what came of it, "" if nothing."""

    told: str
    act: Callable[[], object]
    right: bool | None = None
    fault: Callable[[Any], str] = lambda result: ""


@dataclass
class World:
    """What the inputs work on: a whole model in a folder, what it draws and how it reads texts."""

    folder: Path
    pipeline: StableDiffusionPipeline = field(init=False)

    def __post_init__(self) -> None:
        from tiny import tiny_pipeline

        shutil.rmtree(self.folder, ignore_errors=True)
        self.model = self.folder / "model"
        tiny_pipeline().save_pretrained(self.model)
        self.pipeline = StableDiffusionPipeline.from_pretrained(self.model)
        self.picture = draw(self.pipeline)
        self.ids = self.pipeline.tokenizer(TEXTS)

    def pictures(self) -> Path:
        """A folder of eight pictures of two classes, and a map beside each."""
        from PIL import Image

        folder = self.folder / "pictures"
        for i in range(0 if folder.is_dir() else 8):
            (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            Image.new("L", (9, 9), 30 * i).save(folder / "ab"[i % 2] / f"{i}.png")
            Image.new("L", (9, 9), i % 2).save(folder / "ab"[i % 2] / f"{i}.map.png")
        return folder


TEXTS = ["a handwritten seven", "the digit 3"]


def draw(pipeline: StableDiffusionPipeline, **options: Any) -> Tensor:
    asked = {"num_inference_steps": 1, "guidance_scale": 1.0, "progress": False}
    generator = torch.Generator().manual_seed(0)
    return pipeline(**({"prompt": TEXTS[0], "generator": generator} | asked | options))


def is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def is_real(value: object, least: float = -INF, most: float = INF) -> bool:
    """A finite number, and no truth value, within the limits."""
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        return False
    return least <= value <= most and abs(value) < INF


def shown(value: object) -> str:
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)} {value.dtype}"
    return repr(value)[:60]


def pictures(count: int | None, result: object) -> str:
    """What is wrong with pictures."""
    if not isinstance(result, Tensor) or result.ndim != 4:
        return f"no pictures but {shown(result)}"
    if count is not None and len(result) != count:
        return f"{len(result)} pictures instead of {count}"
    return "" if bool((result.abs() <= 1).all()) else "a picture beyond [-1, 1], or NaN"


def finite(shape: Sequence[int] | None, result: object) -> str:
    """What is wrong with a tensor of numbers."""
    if not isinstance(result, Tensor):
        return f"no tensor but {shown(result)}"
    if shape is not None and tuple(result.shape) != tuple(shape):
        return f"shape {tuple(result.shape)} instead of {tuple(shape)}"
    return "" if bool(result.isfinite().all()) else "NaN or infinity"


# --------------------------------------------------------------------------------------------------
# functions


def tensors_like(rng: Random, shape: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, bool]:
    """A tensor of random shape and type, and whether it is of those asked for."""
    other = list(shape)
    for _ in range(rng.choice([0, 0, 1, 2])):
        change = rng.randrange(4)
        if change == 0 and other:
            other.pop(rng.randrange(len(other)))
        elif change == 1:
            other.insert(rng.randrange(len(other) + 1), rng.choice([1, 2]))
        elif other:
            other[rng.randrange(len(other))] = rng.choice([0, 1, 2, 3, 5, 8])
    kinds = [dtype, dtype, dtype, torch.int64, torch.float64, torch.bool, torch.complex64]
    kind = rng.choice(kinds)
    made = torch.rand(other, generator=torch.Generator().manual_seed(0)).to(kind)
    return made, other == list(shape) and kind == dtype


def drawing(rng: Random, world: World) -> Input:
    """The pipeline's call with one argument of any kind."""
    accepts: dict[str, Callable[[Any], bool | None]] = {
        "num_inference_steps": lambda v: v is None or (is_count(v) and v <= 1000),
        "guidance_scale": lambda v: v is None or is_real(v, 0) or one_number(v),
        "guidance_start": lambda v: v is None or ((is_real(v, 0) or one_number(v)) and v < 1),
        "num_images_per_prompt": is_count,
        "batch_size": is_count,
        "height": lambda v: v is None or (is_count(v) and v % 4 == 0),
        "width": lambda v: v is None or (is_count(v) and v % 4 == 0),
        "prompt": lambda v: (
            isinstance(v, str)
            or (isinstance(v, (list, tuple)) and len(v) > 0 and all(isinstance(t, str) for t in v))
        ),
        "strength": lambda v: v is None or (is_real(v, 0) and 0 < v <= 1),
        "generator": lambda v: v is None,
        "latents": lambda v: v is None,
        "image": lambda v: v is None,
    }
    name = rng.choice(list(accepts))
    value = rng.choice(SMALL + LARGE + FROM_NUMPY + OTHERS + TENSORS)
    right = accepts[name](value)
    options: dict[str, Any] = {name: value}
    if name == "num_images_per_prompt" and is_count(value):
        value = options[name] = min(value, 7)  # more of them take more memory, as one would think
    if name in ("height", "width") and is_real(value) and value > 100:
        value = options[name] = 101
        right = False
    if name == "guidance_scale":
        options["num_inference_steps"] = 2
        if right and value is not None and float(value) > 1000:
            right = None  # may overflow, which is then said
    if name == "strength":
        options |= {"image": torch.zeros(1, 1, 32, 32), "num_inference_steps": 2}
        if is_real(value) and value < 0.5:
            right = False  # not one step
    if name == "image":
        value, same = tensors_like(rng, (1, 1, 32, 32), torch.float32)
        options, right = {"image": value, "num_inference_steps": 2}, same or None
    if name == "latents":
        value, same = tensors_like(rng, (1, 4, 8, 8), torch.float32)
        if rng.random() < 0.2 and same:
            value[0, 0, 0, 0], same = NAN, False
        options, right = {"latents": value}, same or (None if value.ndim == 4 else False)
    count = None
    if name == "num_images_per_prompt" and right:
        count = int(value)
    told = f"pipeline({name}={shown(value)})"
    act = partial(draw, world.pipeline, **options)
    return Input(told, act, right, partial(pictures, count))


def one_number(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1 and 0 <= float(value) < INF


def networks(rng: Random, world: World) -> Input:
    """A network asked for tensors of other shapes and kinds."""
    pipeline, which = world.pipeline, rng.randrange(4)
    if which == 0:
        value, same = tensors_like(rng, (2, 4, 8, 8), torch.float32)
        time = rng.choice([0, 5, 5.5, 999, torch.tensor([1, 2])])
        context = torch.zeros(2, 16, 12)
        if rng.random() < 0.5:
            value, (context, same) = (
                torch.zeros(2, 4, 8, 8),
                tensors_like(rng, (2, 16, 12), torch.float32),
            )
        told, act = "unet", partial(pipeline.unet, value, time, context)
        shape = value.shape
    elif which == 1:
        value, same = tensors_like(rng, (2, 1, 32, 32), torch.float32)
        told, shape = "vae.encode", None
        act = lambda: pipeline.vae.encode(value).mode()  # noqa: E731
    elif which == 2:
        value, same = tensors_like(rng, (2, 4, 8, 8), torch.float32)
        told, act, shape = "vae.decode", partial(pipeline.vae.decode, value), None
    else:
        value, same = tensors_like(rng, (2, 16), torch.int64)
        if value.numel() and rng.random() < 0.5 and value.dtype == torch.int64:
            value.view(-1)[0] = wrong = rng.choice([-1, 10**6, 3])
            same = same and wrong == 3
        told, act, shape = "text_encoder", partial(pipeline.text_encoder, value), None
    got = f"{told}({shown(value)})" if which else f"unet({shown(value)}, {shown(context)})"
    return Input(got, torch.no_grad()(act), True if same else None, partial(finite, shape))


def schedulers(rng: Random, world: World) -> Input:
    """A scheduler made, set and stepped with numbers of any kind."""
    name = rng.choice(list(SAMPLERS))
    class_, which = SAMPLERS[name], rng.randrange(4)
    flow = "flow" in name
    value = rng.choice(SMALL + LARGE + FROM_NUMPY + OTHERS + TENSORS)
    x = torch.linspace(-1, 1, 32).reshape(2, 1, 4, 4)
    if which == 0:
        keys = (
            ["num_train_timesteps"] if flow else ["num_train_timesteps", "beta_start", "beta_end"]
        )
        key = rng.choice(keys)
        told = f"{class_.__name__}.from_config({key}={shown(value)})"
        right = False
        if key == "num_train_timesteps" and is_count(value):
            right = None if value <= 10**6 else False
        elif key != "num_train_timesteps" and is_real(value, 0, 1):
            right = None
        plain = isinstance(value, (Tensor, np.generic))  # as numbers, they are Python's
        act = lambda: class_.from_config({key: value}).timesteps.float()  # noqa: E731
        return Input(told, act, None if plain else right, partial(finite, None))
    scheduler = class_()
    if which == 1:
        right = is_count(value) and value <= 1000
        if name == "pndm" and right and value < 4:
            right = None  # Runge-Kutta's beginning takes four
        act = lambda: scheduler.set_timesteps(value) or scheduler.timesteps.float()  # noqa: E731
        return Input(
            f"{class_.__name__}.set_timesteps({shown(value)})",
            act,
            right,
            partial(finite, None),
        )
    if which == 2:
        scheduler.set_timesteps(4)
        first = float(scheduler.timesteps[0])
        fitting = is_real(value) and float(value) == first
        odd, same = tensors_like(rng, x.shape, torch.float32)
        if rng.random() < 0.5:
            told, act = f"step(…, {shown(value)}, …)", partial(scheduler.step, x, value, x)
            right = True if fitting else None
        else:
            told, act = (
                f"step({shown(odd)}, …)",
                partial(scheduler.step, odd, scheduler.timesteps[0], x),
            )
            right = True if same else None if tuple(odd.shape) == tuple(x.shape) else False
        return Input(f"{class_.__name__}.{told}", act, right, partial(finite, x.shape))
    steps, same = tensors_like(rng, (2,), torch.int64)
    if steps.dtype in (torch.int64, torch.float64) and steps.numel():
        steps.view(-1)[0] = number = rng.choice([0, 5, 999, 1000, -1, 2**40])
        same = same and 0 < number < 1000
    noise, fits = tensors_like(rng, x.shape, torch.float32)
    act = partial(scheduler.add_noise, x, noise, steps)
    told = f"{class_.__name__}.add_noise(x, {shown(noise)}, {steps.tolist()})"
    right = True if same and fits and not flow and name not in SIGMAS else None
    if tuple(noise.shape) != tuple(x.shape):
        right = False
    return Input(told, act, right, partial(finite, x.shape))


SIGMAS = ("euler", "euler_a", "heun", "flow_euler")  # add noise at their own timesteps only


def pieces(rng: Random, world: World) -> Input:
    """The functions that chapters call."""
    value = rng.choice(SMALL + LARGE + FROM_NUMPY + OTHERS)
    which = rng.randrange(5)
    x = torch.linspace(-1, 1, 32).reshape(2, 1, 4, 4)
    if which == 0:
        key = rng.choice(["num_train_timesteps", "beta_start", "beta_end"])
        schedule = rng.choice(["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
        right: bool | None = False
        if key == "num_train_timesteps":
            right = is_count(value) and value <= 10**6
        elif is_real(value):
            ends = {"beta_start": 1e-4, "beta_end": 0.02} | {key: float(value)}
            right = 0 < ends["beta_start"] <= ends["beta_end"] < 1
        act = partial(make_betas, schedule, **{key: value})
        return Input(
            f"make_betas({schedule!r}, {key}={shown(value)})", act, right, partial(finite, None)
        )
    if which == 1:
        scheduler = SAMPLERS["ddim"](clip_sample=False)
        start, fits = tensors_like(rng, x.shape, torch.float32)
        place = rng.choice(SMALL + OTHERS)
        whole = isinstance(place, Integral) and 0 <= place < 4
        right = whole and tuple(start.shape) == tuple(x.shape)
        right = None if right and (not fits or isinstance(place, bool)) else right
        act = lambda: sample(lambda z, t: z, scheduler, x, 4, x0=start, begin_index=place)  # noqa: E731
        return Input(
            f"sample(x0={shown(start)}, begin_index={shown(place)})",
            act,
            right,
            partial(finite, x.shape),
        )
    if which == 2:
        other, same = tensors_like(rng, x.shape, torch.float32)
        right = True if same else None if tuple(other.shape) == tuple(x.shape) else False
        act = partial(guide, [x, other], [2.0])
        return Input(f"guide([x, {shown(other)}])", act, right, partial(finite, x.shape))
    if which == 3:
        image, same = tensors_like(rng, (2, 1, 8, 8), torch.float32)
        act = lambda: from_pixels(to_pixels(image)).float()  # noqa: E731
        return Input(
            f"from_pixels(to_pixels({shown(image)}))",
            act,
            True if same else None,
            partial(finite, None),
        )
    return widgets(rng, value)


def widgets(rng: Random, value: object) -> Input:
    """A widget, one trait of which is set, and then that on which it depends: it stays within what
    there is to show."""
    from minildm.widgets import field_explorer, frame_slider, latent_explorer, schedule_designer

    three = torch.zeros(3, 1, 4, 4)
    names = {name: 0 for name in "ab"}
    decode = lambda z: z.new_zeros(len(z), 1, 4, 4)  # noqa: E731
    made = {
        "frames": lambda: frame_slider({k: three for k in names}, {k: ["x"] * 3 for k in names}),
        "fields": lambda: field_explorer({k: torch.zeros(3, 2, 2, 2) for k in names}, 1.0, "xyz"),
        "latents": lambda: latent_explorer(decode, torch.zeros(3, 2), [0] * 3, "a", 2),
        "schedule": lambda: schedule_designer(three[:1]),
    }
    limits = {
        ("frames", "choice"): (0, 1),
        ("frames", "index"): (0, 2),
        ("fields", "choice"): (0, 1),
        ("fields", "index"): (0, 3),
        ("fields", "extent"): (0, INF),
        ("latents", "extent"): (0, INF),
        ("latents", "x"): (-1e30, 1e30),
        ("schedule", "t"): (0, 999),
        ("schedule", "num_train_timesteps"): (1, 10**6),
        ("schedule", "beta_start"): (0, 1),
        ("schedule", "beta_end"): (0, 1),
    }
    kind, trait = rng.choice(sorted(limits))
    lowest, highest = limits[kind, trait]

    def act() -> Any:
        widget = made[kind]()
        if trait == "num_train_timesteps":
            widget.t = 900
        setattr(widget, trait, value)
        if trait == "x":
            widget.extent = 0.5  # what stood further out comes along
        return widget

    def fault(widget: Any) -> str:
        place = getattr(widget, trait)
        if trait == "num_train_timesteps" and not widget.t < place:
            return f"t = {widget.t} of {place}"
        if trait == "x" and not abs(place) <= widget.extent:
            return f"x = {place} beyond {widget.extent}"
        return "" if lowest <= place <= highest else f"{trait} = {place}"

    wrong = isinstance(value, (int, float)) and not isinstance(value, bool)
    wrong = wrong and not lowest <= value <= highest
    return Input(f"{kind} widget.{trait} = {shown(value)}", act, False if wrong else None, fault)


def functions(rng: Random, world: World) -> Input:
    """One of the groups above."""
    return rng.choice([drawing, networks, schedulers, pieces])(rng, world)


# --------------------------------------------------------------------------------------------------
# files


def with_file(file: Path, content: bytes, act: Callable[[], object]) -> object:
    """What comes of it while the file holds something else."""
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        return act()
    finally:
        file.write_bytes(before)


def same_picture(world: World, tolerance: float, result: Tensor) -> str:
    off = float((result - world.picture).abs().max()) if pictures(1, result) == "" else NAN
    return "" if off <= tolerance else f"another picture ({off:.3g} of 2 away)"


def weights(rng: Random, world: World) -> Input:
    """A file of weights with a tensor of another kind or shape, with NaN, cut, or renamed."""
    part = rng.choice(["vae", "unet", "text_encoder"])
    (file,) = (world.model / part).glob("*.safetensors")
    tensors = load_file(file)
    name = rng.choice(sorted(tensors))
    tensor, change = tensors[name], rng.randrange(9)
    right: bool | None = False
    fault: Callable[[Any], str] = partial(pictures, 1)
    told, raw = "", b""
    if change in (0, 1):
        kinds = [torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64]
        kind = rng.choice(kinds)
        tensors[name], told = tensor.to(kind), f"{name} as {kind}"
    elif change == 2:
        value = rng.choice([NAN, INF, -INF])
        tensor.view(-1)[rng.randrange(tensor.numel())] = value
        told = f"{value} in {name}"
    elif change == 3:
        kind = rng.choice([torch.float64, torch.float32, torch.bfloat16, torch.float16])
        tensors[name], told, right = tensor.to(kind), f"{name} as {kind}", True
        fault = partial(same_picture, world, 0.3)
    elif change == 4:
        del tensors[name]
        if rng.random() < 0.5:
            tensors[name + ".other"] = tensor
        told = f"{name} missing"
    elif change == 5:
        tensors[name], told = tensor[None].clone(), f"{name} of shape {(1, *tensor.shape)}"
    elif change == 6:
        value = rng.choice([1e38, -1e38, 1e30, 0.0, 1e-38])
        tensor.fill_(value)
        told, right = f"{name} all {value}", None
    elif change == 7:
        whole = file.read_bytes()
        raw = whole[: rng.randrange(len(whole))]
        told = f"cut to {len(raw)} bytes"
    else:
        size = rng.choice([0, 2, 2**20, 2**40, 2**63])
        raw = struct.pack("<Q", size) + file.read_bytes()[8:]
        told = f"a header of {size} bytes"
    if not told.startswith(("cut", "a header")):
        save_file(tensors, world.folder / "other.safetensors")
        raw = (world.folder / "other.safetensors").read_bytes()
    act = partial(
        with_file, file, raw, lambda: draw(StableDiffusionPipeline.from_pretrained(world.model))
    )
    return Input(f"{part}: {told}", act, right, fault)


def kind_of(value: object) -> str:
    if value is None or isinstance(value, (bool, str, list, dict)):
        return type(value).__name__
    return "number"


DANGEROUS = ("scaling_factor", "num_hidden_layers", "layers_per_block", "_class_name", "beta_end")
"""Keys that a network's size or all of its pictures hang on."""


def json_files(rng: Random, world: World) -> Input:
    """A configuration, the index or the card with an entry of any kind, or as no JSON at all."""
    files = ["model_index.json", "minildm.json", "vae/config.json", "unet/config.json"]
    files += ["text_encoder/config.json", "scheduler/scheduler_config.json"]
    name = rng.choice(files)
    file = world.model / name
    content = json.loads(file.read_text("utf-8"))
    if rng.random() < 0.05:
        raw = rng.choice(
            [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"[" * 50_000, b'{"a": 1e', b"\0"]
        )
        act = partial(
            with_file, file, raw, lambda: draw(StableDiffusionPipeline.from_pretrained(world.model))
        )
        return Input(f"{name}: {raw[:20]!r}", act, False, partial(pictures, 1))
    key = rng.choice(sorted(content))
    if rng.random() < 0.3:
        key = rng.choice([key for key in content if key in DANGEROUS] or [key])
    value, before = rng.choice(OF_JSON), content[key]
    inside = isinstance(before, list) and before and rng.random() < 0.5
    if inside:
        content[key] = [*before]
        content[key][rng.randrange(len(before))] = value
        before = before[0]
    else:
        content[key] = value
    ignored = key[:1] == "_" and key != "_class_name"
    # a note of ours or of others', which nothing reads, may be anything, and so may be what is null
    ignored |= name == "minildm.json" and key not in (
        "image_size",
        "num_inference_steps",
        "guidance_scale",
    )
    ignored |= key in (
        "dtype",
        "requires_safety_checker",
        "safety_checker",
        "feature_extractor",
        "image_encoder",
    )
    wrong = kind_of(value) != kind_of(before) and value is not None and before is not None
    wrong |= (
        isinstance(value, (int, float))
        and not is_real(value, -3e38, 3e38)
        and kind_of(value) == "number"
    )
    if isinstance(before, (int, float)) and kind_of(before) == "list":
        wrong = False
    either = {"sample_size", "attention_head_dim"}  # one number, or one for each
    right = False if wrong and not ignored and key not in either else None
    raw = json.dumps(content).encode()
    act = partial(
        with_file, file, raw, lambda: draw(StableDiffusionPipeline.from_pretrained(world.model))
    )
    return Input(
        f"{name}: {key} = {json.dumps(content[key])[:60]}", act, right, partial(pictures, 1)
    )


def learned(rng: Random, world: World) -> Input:
    """A LoRA's or a word's file with a tensor or a setting of another kind."""
    from minildm.files import CARD_ENTRY
    from minildm.variations import LoRA, load_word, save_word, with_word

    file = world.folder / "learned.safetensors"
    pipeline, word = world.pipeline, rng.random() < 0.4
    if word:
        save_word(file, "<heart>", torch.ones(12))
    else:
        if not hasattr(world, "lora"):
            LoRA(StableDiffusionPipeline.from_pretrained(world.model).unet).save_pretrained(file)
            vars(world)["lora"] = file.read_bytes()
        file.write_bytes(vars(world)["lora"])
    tensors, raw = load_file(file), file.read_bytes()
    metadata = {} if word else {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 4.0})}
    name = rng.choice(sorted(tensors))
    change = rng.randrange(7)
    right: bool | None = False
    if change == 0:
        tensors[name] = tensors[name].to(rng.choice([torch.int64, torch.bool, torch.complex64]))
        told = f"as {tensors[name].dtype}"
    elif change == 1:
        tensors[name] = torch.full_like(tensors[name], rng.choice([NAN, INF]))
        told = "not finite"
    elif change == 2:
        shape = rng.choice([(), (0,), (3,), (1, 7), (2, 2, 2), (0, 12)])
        tensors[name], told = torch.zeros(shape), f"of shape {shape}"
    elif change == 3:
        new = rng.choice(["", "x", "<he art>", "Ünï", "\n", name + ".more", "a" * 10_000])
        tensors[new], told, right = tensors.pop(name), f"is called {new[:20]!r}", None
    elif change == 4:
        key = rng.choice(["unet.lora_alpha", "unet.r", "unet.use_dora", "x"])
        value = rng.choice(OF_JSON)
        text = rng.choice([json.dumps({key: value}), json.dumps(value), "{", "", "[" * 50_000])
        metadata = {rng.choice(["lora_adapter_metadata", CARD_ENTRY]): text}
        told, right = f"metadata {text[:40]}", None
    elif change == 5:
        raw = raw[: rng.randrange(len(raw))]
        told = f"cut to {len(raw)} bytes"
    else:
        told, right = "as it was", True
    if change not in (5, 6):
        save_file(tensors, file, metadata)
        raw = file.read_bytes()

    def act() -> Tensor:
        file.write_bytes(raw)
        if word:
            return draw(with_word(pipeline, *load_word(file)), prompt="a seven")
        lora = LoRA.from_pretrained(file, pipeline.unet, pipeline.text_encoder)
        try:
            return draw(pipeline)
        finally:
            lora.remove()

    kind = "word" if word else "LoRA"
    return Input(f"{kind}: {name} {told}", act, right, partial(pictures, 1))


def files(rng: Random, world: World) -> Input:
    """Weights as often as all JSON files together."""
    return rng.choice([weights, json_files, weights, json_files, learned])(rng, world)


# --------------------------------------------------------------------------------------------------
# the tokenizer


def a_text(rng: Random) -> str:
    """Words of the vocabulary, special tokens, and characters of all of Unicode."""
    parts = ["a", "handwritten", "seven", "Seven!", "the digit 3", BOS, EOS, "<|EndOfText|>", "'s"]
    parts += [
        "é",
        "e\u0301",
        "七",
        "🙂",
        "\u200d",
        "\x00",
        "\x85",
        "\ud800",
        "</w>",
        "  ",
        "\n",
        "½",
    ]
    chosen = [rng.choice(parts) for _ in range(rng.choice([0, 1, 3, 30]))]
    if rng.random() < 0.3:
        chosen += [chr(rng.randrange(0x110000)) for _ in range(5)]
    return rng.choice(["", " "]).join(chosen)


def texts(rng: Random, world: World) -> Input:
    """Any text becomes ids of the vocabulary, and back; what is no text is refused."""
    tokenizer = world.pipeline.tokenizer
    if rng.random() < 0.2:
        value = rng.choice(
            [v for v in SMALL + OTHERS if not isinstance(v, str) and v not in ([], (), {})]
        )
        return Input(f"tokenizer({shown(value)})", partial(tokenizer, value), False)
    text = a_text(rng)
    length = rng.choice([None, 2, 16, 77])

    def fault(ids: Tensor) -> str:
        if ids.shape != (1, length or 16) or not 0 <= int(ids.min()) <= int(ids.max()) < len(
            tokenizer
        ):
            return f"ids of shape {tuple(ids.shape)} from {int(ids.min())} to {int(ids.max())}"
        again = tokenizer.decode(tokenizer.encode(text))
        return (
            ""
            if tokenizer.decode(tokenizer.encode(again)) == again
            else "another text the second time"
        )

    right = None if any(0xD800 <= ord(char) < 0xE000 for char in text) else True  # UTF-8 has none
    return Input(
        f"tokenizer({text[:40]!r}, {length})", partial(tokenizer, text, length), right, fault
    )


def tokenizer_files(rng: Random, world: World) -> Input:
    """A tokenizer's file with an entry of another kind, or cut short."""
    folder = world.model / "tokenizer"
    names = ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"]
    name = rng.choice(names)
    file, right = folder / name, None
    if name == "merges.txt":
        whole = file.read_bytes()
        lines = whole.split(b"\n")
        if rng.random() < 0.5:
            kept = rng.randrange(1, len(lines) - 1)
            raw, told, right = b"\n".join(lines[:kept]) + b"\n", f"{kept} lines", False
        else:
            place = rng.randrange(1, len(lines) - 1)
            lines[place] = rng.choice([b"x", b"a b c", b"\xff\xfe", b"zz yy", b"a  b", b" "])
            raw, told, right = b"\n".join(lines), f"line {place} is {lines[place]!r}", False
    else:
        content = json.loads(file.read_text("utf-8"))
        key = rng.choice(sorted(content))
        value = content[key], content.__setitem__(key, rng.choice(OF_JSON))
        new, before = content[key], value[0]
        told = f"{key!r} = {json.dumps(new)[:40]}"
        wrong = kind_of(new) != kind_of(before) and new is not None
        wrong |= isinstance(before, int) and not (
            isinstance(new, int) and not isinstance(new, bool)
        )
        right = False if wrong and name != "special_tokens_map.json" else None
        if name == "tokenizer_config.json" and key.endswith("_token"):
            right = None  # the other file says it once more, and is believed
        if name == "vocab.json" and new is None:
            right = False
        raw = json.dumps(content).encode()

    def read() -> Tensor:
        return CLIPTokenizer.from_pretrained(folder)(TEXTS)

    def fault(ids: Tensor) -> str:
        if name == "merges.txt" and not torch.equal(ids, world.ids):
            return "other ids"
        return "" if ids.ndim == 2 and 0 <= int(ids.min()) else "no ids"

    return Input(f"{name}: {told}", partial(with_file, file, raw, read), right, fault)


def tokenizer(rng: Random, world: World) -> Input:
    """Texts, and files."""
    return rng.choice([texts, tokenizer_files])(rng, world)


# --------------------------------------------------------------------------------------------------
# commands


@dataclass
class Ended:
    """How a command ended: exit status, what it wrote to stderr, and an exception that it let
    through."""

    status: int
    told: str
    error: BaseException | None


def commands(rng: Random, world: World) -> Input:
    """`minildm sample`, `evaluate`, `info`, `data` and whatever else there is, with options of any
    kind; nothing that is right for training, whose surface is another."""
    odd = [
        "",
        "0",
        "-1",
        "1.5",
        "nan",
        "inf",
        "-inf",
        "abc",
        "1e308",
        str(10**400),
        "٣",
        "1_0",
        " 2",
    ]
    odd += [
        "--",
        "\x00",
        "2",
        "1",
        "3",
        str(10**20),
        "'",
        "/",
        ".",
        "/dev/null",
        "/nowhere/x.png",
        "é",
    ]
    model, out = str(world.model), str(world.folder / "out.png")
    options = {
        "--steps": lambda v: v in ("1", "2", "3") or None,
        "--guidance": lambda v: v in ("1", "2", "3", "0", "1.5") or None,
        "--guidance-start": lambda v: v in ("0",) or None,
        "--num": lambda v: v in ("1", "2", "3") or None,
        "--seed": lambda v: v in ("0", "1", "2", "3") or None,
        "--model": lambda v: None,
        "--sampler": lambda v: None,
        "--out": lambda v: None,
        "--npz": lambda v: None,
        "--folder": lambda v: None,
        "--negative": lambda v: None,
        "--prompts-file": lambda v: None,
        "--device": lambda v: None,
        "--unknown": lambda v: False,
    }
    value = rng.choice(odd)
    which = rng.random()
    if which < 0.3:
        return folder_commands(rng, world, value)
    if which < 0.8:
        key = rng.choice(list(options))
        given = {"--model": model, "--out": out, "--steps": "1"} | {key: value}
        words = ["sample", rng.choice(["a handwritten seven", "the digit 3", ""])]
        words += [f"{name}={text}" for name, text in given.items()]
        right = options[key](value)
        if (
            value in ("nan", "inf", "-inf", "abc", "", "\x00", "'", "é")
            and key in list(options)[:5]
        ):
            right = False
        told = f"sample {key}={value[:20]!r}"
    else:
        names = ["evaluate", "info", "data", "train", "sample", "lora", "invert", "controlnet"]
        command = rng.choice([*names, value])
        keys = ["--model", "--data", "--steps", "--minutes", "--preset", "--samples", "--num"]
        keys += ["--rank", "--word", "--classes", "--caption", "--fit", "--size", "--learning-rate"]
        key = rng.choice(keys)
        words = [command, f"{key}={value}", f"--unknown={value}"]
        right, told = False, f"{command[:20]!r} {key}={value[:20]!r} --unknown"

    def act() -> Ended:
        return run_command(words, world.folder)

    return Input(told, act, right, partial(command_fault, right))


def folder_commands(rng: Random, world: World, value: str) -> Input:
    """A command that reads a folder of pictures, whole but for one option, or one file of it; each
    ends before it trains."""
    folder = world.pictures()
    taught = {"--model": str(world.model), "--data": str(folder), "--steps": "1"}
    taught |= {"--out": str(world.folder / "new.safetensors"), "--rank": "1", "--caption": "a {}"}
    options = {
        "data": {"--size": "8", "--fit": "crop", "--background": "white", "--caption": "a {}"},
        "lora": taught | {"--keep": "", "--learning-rate": "1", "--seed": "0", "--minutes": "1"},
        "invert": taught | {"--word": "<x>", "--like": "seven", "--in-place-of": "a"},
        "controlnet": taught | {"--classes": "2", "--out": str(world.folder / "new")},
        "evaluate": {"--model": str(world.model), "--data": str(folder), "--samples": "1"},
        "train": {"--data": str(folder), "--size": "32", "--steps": "1,1,1", "--snapshot": "1"},
    }
    command = rng.choice(sorted(options))
    key = rng.choice(sorted(options[command]))
    given = options[command] | {key: value}
    if command == "invert":
        given.pop("--rank")
    if command == "controlnet":
        given.pop("--rank")
    if command == "train":
        given["--out"] = str(world.folder / "trained")
    if command == "lora":
        for one in ("--steps", "--minutes"):  # not both
            if one != key:
                given.pop(one)
                break
        if key != "--keep":
            given.pop("--keep")
    if command != "data":
        given["--background"] = "no colour"  # or it would train
    words = [command, *([str(folder)] if command == "data" else [])]
    words += [f"{name}={text}" for name, text in given.items()]
    right = None if command == "data" else False
    if command == "data" and key == "--size" and value not in ("1", "2", "3", " 2", "٣", "1_0"):
        right = False
    told = f"{command} {key}={value[:20]!r}"
    return Input(
        told, partial(run_command, words, world.folder), right, partial(command_fault, right)
    )


def run_command(words: Sequence[str], folder: Path, app: Any = None) -> Ended:
    """The command in this process, in a folder of its own."""
    from typer.testing import CliRunner

    if app is None:
        from minildm.cli import app

    try:
        runner = CliRunner(mix_stderr=False)  # click before 8.2
    except TypeError:
        runner = CliRunner()
    with contextlib.chdir(folder):
        result = runner.invoke(app, list(words))
    error = None if isinstance(result.exception, SystemExit) else result.exception
    return Ended(result.exit_code, result.stderr, error)


def command_fault(right: bool | None, ended: Ended, program: str = "minildm:") -> str:
    if ended.error is not None:
        return f"traceback of {type(ended.error).__name__}: {str(ended.error)[:100]}"
    lines = [line for line in ended.told.splitlines() if line.startswith(program)]
    if ended.status not in (0, 2):
        return f"exit status {ended.status}"
    if ended.status == 2 and not any("warning:" not in line for line in lines):
        return f"exit status 2 without a word: {ended.told[-100:]!r}"
    if ended.status == 0 and right is False:
        return "exit status 0"
    return f"refused what is right: {lines[-1:]}" if ended.status and right else ""


SURFACES: dict[str, tuple[Callable[[Random, World], Input], float]] = {
    "functions": (functions, 0.4),
    "files": (files, 0.18),
    "tokenizer": (tokenizer, 0.34),
    "commands": (commands, 0.06),
}
"""Surface -> what makes an input, and its share of them."""
