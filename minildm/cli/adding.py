"""What `minildm sample` adds to a model, LoRA, words and a ControlNet, and the pictures that it
begins from."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypedDict

from typer import Option

from minildm.files import read_card_entry, read_json

if TYPE_CHECKING:
    from torch import Tensor

    from minildm.pipelines.stable_diffusion import StableDiffusionPipeline

ADDED = "What was learned besides"
BEGUN = "Pictures to begin from"

Lora = Annotated[
    list[str] | None,
    Option(
        help="A file of minildm lora, or of diffusers, and how much of it (1 if not said); several "
        "add up.",
        metavar="FILE[:STRENGTH]",
        rich_help_panel=ADDED,
    ),
]
Word = Annotated[
    list[Path] | None,
    Option(
        help="A file of minildm invert; prompts may then use its word. Several: several words.",
        metavar="FILE",
        rich_help_panel=ADDED,
    ),
]
Control = Annotated[
    Path | None,
    Option(
        help="A map of what is to be where. For scenes: each pixel the number of its digit, or 10 "
        "for the ground.",
        metavar="MAP",
        rich_help_panel=ADDED,
    ),
]
ControlNet = Annotated[
    Path | None,
    Option(
        "--controlnet",
        help="Which reads the map: a folder of minildm controlnet; for scenes there is one.",
        metavar="FOLDER",
        rich_help_panel=ADDED,
    ),
]
Photo = Annotated[
    Path | None,
    Option(help="A picture to begin from.", metavar="PICTURE", rich_help_panel=BEGUN),
]
Strength = Annotated[
    float | None,
    Option(
        help="How far to go from --image, 1 to leave nothing of it; by default 0.8, or 1 with "
        "--mask.",
        metavar="FLOAT",
        rich_help_panel=BEGUN,
    ),
]
Mask = Annotated[
    Path | None,
    Option(
        help="Of the size of --image: white where to paint anew, black where to keep.",
        metavar="PICTURE",
        rich_help_panel=BEGUN,
    ),
]
DrawnFit = Annotated[
    str | None,
    Option(
        "--fit",
        help="How --image, --mask and --control become square; by default crop.",
        metavar="crop|pad",
        rich_help_panel=BEGUN,
    ),
]
DrawnBackground = Annotated[
    str | None,
    Option(
        "--background",
        help="Behind transparent parts, and what --fit pad adds; by default white.",
        metavar="COLOUR",
        rich_help_panel=BEGUN,
    ),
]


class StartingPictures(TypedDict, total=False):
    """Of a pipeline's call."""

    image: Tensor
    strength: float | None
    mask: Tensor


class Additions(NamedTuple):
    """What the options say, checked as far as is possible without the model."""

    loras: list[tuple[Path, float]]
    words: list[Path]
    control: Path | None
    controlnet: Path | None
    image: Path | None
    strength: float | None
    mask: Path | None
    fit: str
    background: str


def read_additions(
    lora: Iterable[str] | None,
    word: Iterable[Path] | None,
    control: Path | None,
    controlnet: Path | None,
    image: Path | None,
    strength: float | None,
    mask: Path | None,
    fit: str | None,
    background: str | None,
) -> Additions:
    """ValueError for an option that makes no sense without another."""
    for option, given, needed, there in (
        ("--strength", strength, "--image", image),
        ("--mask", mask, "--image", image),
        ("--controlnet", controlnet, "--control", control),
        ("--fit", fit, "--image or --control", image or control),
        ("--background", background, "--image or --control", image or control),
    ):
        if given is not None and there is None:
            raise ValueError(f"expected {needed} with {option}, got none")
    loras = [file_and_strength(text) for text in lora or []]
    words = list(word or [])
    return Additions(
        loras, words, control, controlnet, image, strength, mask, fit or "crop",
        background or "white",
    )  # fmt: skip


def file_and_strength(text: str) -> tuple[Path, float]:
    """The two parts of FILE:STRENGTH; 1 if it is a FILE alone."""
    name, colon, number = text.rpartition(":")
    try:
        strength = float(number)
    except ValueError:
        return Path(text), 1.0
    if not colon or Path(text).exists():
        return Path(text), 1.0
    if not math.isfinite(strength):
        raise ValueError(f"--lora: expected a number behind the colon, got {text!r}")
    return Path(name), strength


def add(
    pipeline: StableDiffusionPipeline, model: str, added: Additions, prompts: Iterable[str]
) -> StableDiffusionPipeline:
    """The pipeline with words, LoRAs and ControlNet; ValueError for those of another model."""
    from minildm.state_dicts import digest
    from minildm.variations.lora import LoRA
    from minildm.variations.textual_inversion import load_word, with_word

    if not (added.loras or added.words or added.control):
        return pipeline
    unet = pipeline.unet
    here = digest(unet.state_dict().values())
    for file in added.words:
        word, vector = load_word(file)
        try:
            pipeline = with_word(pipeline, word, vector)
        except ValueError as error:
            raise ValueError(f"--word {file}: {error}") from None
        if not any(word in prompt for prompt in prompts):
            warnings.warn(f"--word {file}: no prompt has its word, {word}", stacklevel=2)
        warn_of_another_model(file, read_card_entry(file), here, model)
    for file, strength in added.loras:
        try:
            LoRA.from_pretrained(file, unet, pipeline.text_encoder).set_strength(strength)
        except ValueError as error:
            raise ValueError(f"--lora {error}{other_model(file, here, model)}") from None
        card = read_card_entry(file)
        warn_of_another_model(file, card, here, model)
        words, tokenizer = card.get("words"), pipeline.tokenizer
        if tokenizer.known_words and isinstance(words, list):
            tokenizer.known_words |= set(map(str, words))
    if added.control is not None:
        pipeline = with_control(pipeline, model, added, added.control, here)
    return pipeline


def with_control(
    pipeline: StableDiffusionPipeline, model: str, added: Additions, control: Path, here: str
) -> StableDiffusionPipeline:
    """The pipeline, whose U-Net is told what the map says."""
    from minildm.data.maps import read_map
    from minildm.pipelines.checkpoints import CARD
    from minildm.variations.concatenation import encode_maps
    from minildm.variations.controlnet import ControlledUNet, ControlNetModel
    from minildm.variations.fitting import framed, picture_size

    folder = added.controlnet or shipped_controlnet(model)
    controlnet = ControlNetModel.from_pretrained(folder)
    card = read_json(folder / CARD, "a ControlNet's card") if (folder / CARD).is_file() else {}
    channels = controlnet.config.conditioning_channels
    classes = card.get("classes", None if channels == 3 else channels)
    if isinstance(classes, bool) or classes not in ((None, 3) if channels == 3 else (channels,)):
        raise ValueError(
            f"{folder / CARD}: expected the maps' {channels} channels as classes, got {classes!r}"
        )
    factor = 2 ** (len(controlnet.config.conditioning_embedding_out_channels) - 1)
    try:
        controlled = ControlledUNet(pipeline.unet, controlnet)
        if factor != (expected := pipeline.vae.downscale_factor):
            raise ValueError(
                f"expected a ControlNet for latents {expected} times smaller, as the "
                f"model's, got one for {factor} times"
            )
    except ValueError as error:
        raise ValueError(f"--controlnet {folder}: {error}") from None
    warn_of_another_model(folder, card, here, model)
    shown = read_map(control, picture_size(pipeline), classes, added.fit, added.background)
    shown = framed(pipeline, shown)[None]
    if classes is not None:
        shown = encode_maps(shown, shown.shape[-1], classes=classes)
    controlled.controlnet_cond = shown
    return type(pipeline).from_pipe(pipeline, unet=controlled)


def starting_pictures(
    pipeline: StableDiffusionPipeline, added: Additions, num_inference_steps: int | None
) -> StartingPictures:
    """What the pipeline's call is told of `--image`; ValueError if one step has to do."""
    from minildm.variations.fitting import read_image, read_mask

    if added.image is None:
        return {}
    steps = pipeline.default("num_inference_steps", num_inference_steps)
    if steps == 1:
        raise ValueError("expected two steps or more with --image, got 1, which begins from noise")
    told = StartingPictures(
        image=read_image(pipeline, added.image, added.fit, added.background),
        strength=added.strength,
    )
    if added.mask is not None:
        told["mask"] = read_mask(pipeline, added.mask, added.image, added.fit)
    return told


def shipped_controlnet(model: str) -> Path:
    """The folder of the ControlNet that is shipped for a shipped model."""
    from minildm.pipelines.checkpoints import checksums, shipped

    name = f"{model}-controlnet"
    if not any(file.startswith(f"{name}/") for file in checksums()):
        raise ValueError(
            f"expected --controlnet FOLDER with --control, since none is shipped for {model}"
        )
    return shipped(name)


def other_model(file: Path, here: str, model: str) -> str:
    """Why a file may not fit: its card names another model than the one drawn with."""
    try:
        card = read_card_entry(file)
    except ValueError:  # it is no such file at all
        return ""
    fits = card.get("unet", here) == here
    return "" if fits else f" (it was trained for {card.get('for')}, not for {model})"


def warn_of_another_model(file: Path, card: Mapping[str, object], here: str, model: str) -> None:
    """Say it if what was learned is of a model with the same shapes and other weights."""
    if card.get("unet", here) != here:
        warnings.warn(
            f"{file} was trained for another model ({card.get('for')}) than {model}", stacklevel=3
        )
