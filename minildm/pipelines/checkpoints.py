"""A model on disk: Stable Diffusion's folder, and the models that are shipped with minildm.
Chapter 11."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from minildm.configuration.mixins import DIFFUSERS_VERSION, ConfigMixin, ModelMixin
from minildm.files import CHECKSUMS, checked, read_checksums, read_json, write_json
from minildm.models.autoencoder import AutoencoderKL
from minildm.models.unet import UNet2DConditionModel
from minildm.schedulers.base import Scheduler
from minildm.schedulers.dpm_solver import DPMSolverMultistepScheduler
from minildm.schedulers.samplers import SAMPLERS, sampler_name
from minildm.text.text_encoder import CLIPTextModel
from minildm.text.tokenizer import CLIPTokenizer

INDEX = "model_index.json"  # diffusers' list of the parts
CARD = "minildm.json"  # what else we know of the model
INTERVAL = "interval"  # the card's timestep_cond: how far a step goes is told beside the time
IN_DIFFUSERS = "in_diffusers"  # the card's note on what of it diffusers' own pipeline cannot do
Part = ConfigMixin | CLIPTokenizer
# The folders of a model: the library that the index names for each, and the classes that may lie in
# it.
COMPONENTS: dict[str, tuple[str, dict[str, type[Part]]]] = {
    "vae": ("diffusers", {"AutoencoderKL": AutoencoderKL}),
    "text_encoder": ("transformers", {"CLIPTextModel": CLIPTextModel}),
    "tokenizer": (
        "transformers",
        {"CLIPTokenizer": CLIPTokenizer, "CLIPTokenizerFast": CLIPTokenizer},
    ),
    "unet": ("diffusers", {"UNet2DConditionModel": UNet2DConditionModel}),
    "scheduler": ("diffusers", {scheduler.__name__: scheduler for scheduler in SAMPLERS.values()}),
}
# a picture needs none of them
PASSED_OVER = ("safety_checker", "feature_extractor", "image_encoder")

PIPELINE = "StableDiffusionPipeline"
# a folder for each checkpoint, and SHA256SUMS
WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


def load_parts(
    folder: Path, dtype: torch.dtype | None = None, variant: str | None = None
) -> dict[str, Any]:
    """The parts in the folder of a Stable Diffusion model that ours or diffusers wrote, and its
    card (None without)."""
    parts: dict[str, Any] = {}
    for part, class_ in read_index(folder / INDEX).items():
        if issubclass(class_, ModelMixin):
            parts[part] = class_.from_pretrained(folder / part, dtype, variant=variant)
        else:
            parts[part] = class_.from_pretrained(folder / part)
    for part in ("vae", "unet"):
        parts[part].to(memory_format=torch.channels_last)  # faster convolutions on a CPU
    return parts | {
        "card": read_json(folder / CARD, "a model's card") if (folder / CARD).exists() else None
    }


def save_parts(
    folder: Path,
    parts: Mapping[str, Any],
    card: Mapping[str, Any],
    dtype: torch.dtype | None,
    variant: str | None = None,
) -> None:
    """The inverse; the index comes last, and an older one goes first, so that an unfinished folder
    is not taken for a model."""
    (folder / INDEX).unlink(missing_ok=True)
    index: dict[str, Any] = {"_class_name": PIPELINE, "_diffusers_version": DIFFUSERS_VERSION}
    for name, part in parts.items():
        of_networks = {"dtype": dtype, "variant": variant}
        options = of_networks if hasattr(part, "parameters") else {}
        part.save_pretrained(folder / name, **options)
        class_ = getattr(part, "saved_as", type(part))  # a ControlledUNet is saved as its U-Net
        index[name] = [COMPONENTS[name][0], class_.__name__]
    if reason := fails_in_diffusers(parts["scheduler"]):
        warnings.warn(f"{folder}: diffusers cannot draw from it: {reason}", stacklevel=3)
    write_json(folder / CARD, with_note(card))
    write_json(
        folder / INDEX,
        index | dict.fromkeys(PASSED_OVER, [None, None]) | {"requires_safety_checker": False},
    )


def with_note(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card, with a note if it says something that diffusers' own pipeline cannot do."""
    noted = {key: value for key, value in card.items() if key != IN_DIFFUSERS}
    if noted.get("guidance_start"):
        noted[IN_DIFFUSERS] = "StableDiffusionPipeline knows no guidance_start: it guides all steps"
    if noted.get("timestep_cond") == INTERVAL:
        noted[IN_DIFFUSERS] = (
            "StableDiffusionPipeline tells a step's length as guidance_scale - 1: "
            "in one step guidance_scale=1.999"
        )
    return noted


def fails_in_diffusers(scheduler: Scheduler) -> str:
    """Why diffusers' own pipeline ends in an error with this scheduler; "" if it does not.

    Seen in 0.42: where two steps share a timestep it takes the first for the second, and one step
    too many is left at the end.
    """
    if not isinstance(scheduler, DPMSolverMultistepScheduler):
        return ""
    trial = type(scheduler).from_config(scheduler.config)
    trial.set_timesteps(50)  # its pipeline's default
    if trial.timesteps[0] != trial.timesteps[1]:
        return ""
    return f"{sampler_name(scheduler)} ends in an IndexError there, dpmpp_2m does not"


def read_index(file: Path) -> dict[str, type[Part]]:
    """The class of each part that a model_index.json names, if they are those of a
    StableDiffusionPipeline."""
    index = read_json(file, "the list of a Stable Diffusion model's parts")
    if index.get("_class_name") != PIPELINE:
        raise ValueError(
            f"{file}: expected _class_name {PIPELINE!r}, got {index.get('_class_name')!r}"
        )
    given = {
        part: value[-1]
        for part, value in index.items()
        if isinstance(value, list) and value and value[-1]
    }
    for part in dict.fromkeys([*COMPONENTS, *given]):
        library, classes = COMPONENTS.get(part, ("", {}))
        if part not in PASSED_OVER and index.get(part) not in [[library, name] for name in classes]:
            expected = f"{' or '.join(classes)} of {library}" if classes else "absent"
            raise ValueError(
                f"{file}: expected {part} to be {expected}, got {index.get(part)!r:.80}"
            )
    if ignored := [part for part in PASSED_OVER if part in given]:
        warnings.warn(f"{file.parent}: minildm passes over {' and '.join(ignored)}", stacklevel=4)
    return {part: classes[given[part]] for part, (_, classes) in COMPONENTS.items()}


def find_model(name_or_folder: str | os.PathLike) -> Path:
    """The folder of a shipped model, or the folder itself."""
    name, known = str(name_or_folder), shipped_models()
    if name in known:
        return shipped(name)
    if not Path(name).is_dir():
        raise FileNotFoundError(
            f"expected a folder or a shipped model ({', '.join(known) or 'none'}), got {name!r}"
        )
    return Path(name)


def shipped_models() -> list[str]:
    """The names that `find_model` knows."""
    return sorted(
        Path(name).parent.as_posix() for name in checksums() if name.endswith(f"/{INDEX}")
    )


def shipped(name: str) -> Path:
    """The folder of a shipped checkpoint ("mnist", "mnist-examiner"), once its files have their
    checksums."""
    mend = mending()
    files = {file: digest for file, digest in checksums().items() if file.startswith(f"{name}/")}
    if not files:
        raise FileNotFoundError(
            f"{WEIGHTS / name}: expected a shipped checkpoint, got none; mend it with: {mend}"
        )
    for file, digest in files.items():
        checked(WEIGHTS / file, "sha256", digest, mend)
    return WEIGHTS / name


def checksums() -> dict[str, str]:
    """What SHA256SUMS lists: file, relative to it -> digest."""
    return read_checksums(WEIGHTS, mending()) if (WEIGHTS / CHECKSUMS).is_file() else {}


def mending() -> str:
    """The command that brings the shipped weights back."""
    in_source_tree = (WEIGHTS.parents[1] / "pyproject.toml").is_file()
    if in_source_tree:
        return "git checkout -- minildm/weights"
    return "pip install --force-reinstall --no-deps minildm"
