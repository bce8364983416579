"""The options that several commands share, and what is checked before the work rather than after
it."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer
from typer import Option

if TYPE_CHECKING:
    from minildm.pipelines.stable_diffusion import StableDiffusionPipeline


A_YEAR = 366 * 24 * 60  # in minutes


def integer(text: str) -> int:
    """An option's whole number."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"expected a whole number, got {text!r}") from None


def seed_number(text: str) -> int:
    """A seed, from which training makes larger ones."""
    if not 0 <= integer(text) < 2**31:
        raise typer.BadParameter(f"expected a number from 0 to 2147483647, got {text}")
    return int(text)


def folder_name(text: str) -> Path:
    """A folder that is named: an empty name would be the folder that one is in."""
    if not text.strip():
        raise typer.BadParameter(f"expected the name of a folder, got {text!r}")
    return Path(text)


Model = Annotated[
    str,
    Option(help="A shipped model's name, or a folder in diffusers' layout.", metavar="NAME|FOLDER"),
]
Sampler = Annotated[
    str | None,
    Option(
        help="ddpm, ddim, pndm, euler, euler_a, heun, dpmpp_2m, lcm (for models distilled so) or "
        "flow_euler; euler, heun and dpmpp_2m also with _karras or _exponential after the name; "
        "by default the model's.",
        metavar="NAME",
    ),
]
Steps = Annotated[
    int | None,
    Option(help="Denoising steps; by default the model's.", parser=integer, metavar="INT"),
]
Guidance = Annotated[
    float | None,
    Option(help="Guidance scale, 1 or less for none; by default the model's.", metavar="FLOAT"),
]
GuidanceStart = Annotated[
    float | None,
    Option(
        help="The part of the steps before guidance; by default the model's, or 0 with --guidance.",
        metavar="PART",
    ),
]
BadGuide = Annotated[
    str | None,
    Option(
        help="A worse version of the model to steer away from (autoguidance), such as "
        "OUT/snapshot of train --snapshot.",
        metavar="NAME|FOLDER",
    ),
]
Autoguidance = Annotated[
    float | None,
    Option(help="How far from --bad-guide, 1 for not at all; by default 1.5.", metavar="SCALE"),
]
Size = Annotated[
    int, Option(help="The pictures' width and height in pixels.", parser=integer, metavar="INT")
]
Fit = Annotated[
    str,
    Option(
        help="How pictures become squares: crop keeps their middle, pad all of them, on the "
        "background.",
        metavar="crop|pad",
    ),
]
Background = Annotated[
    str,
    Option(
        help="The colour behind pad's pictures and transparent ones, such as white or #fafafa.",
        metavar="COLOUR",
    ),
]
Caption = Annotated[
    str,
    Option(
        help="What the pictures of a class folder are called; {class} is its name.", metavar="TEXT"
    ),
]
Strict = Annotated[
    bool,
    Option(
        "--strict", help="A file that is no picture, or a damaged one, is an error.", metavar=""
    ),
]
# The same for --data, where one may go unsaid: training then takes these, and a score is taken of
# pictures made square as the model's.
DEFAULT_SIZE = 32
Data = Annotated[
    Path | None,
    Option(
        help="Your own pictures: a sub-folder for each class, or metadata.jsonl or metadata.csv "
        "with captions.",
        metavar="FOLDER",
    ),
]
GivenSize = Annotated[
    int | None,
    Option(
        help="With --data: 32 (by default) or 64 pixels.",
        parser=integer,
        metavar="INT",
    ),
]
GivenFit = Annotated[
    str | None,
    Option(help="With --data: crop (by default) or pad, as in minildm data.", metavar="crop|pad"),
]
GivenBackground = Annotated[
    str | None,
    Option(help="With --data: the colour behind pictures; by default white.", metavar="COLOUR"),
]
GivenCaption = Annotated[
    str | None,
    Option(
        help="With --data: captions of class folders; by default a picture of {class}.",
        metavar="TEXT",
    ),
]
Seed = Annotated[int, Option(help="Same seed, same result.", parser=seed_number, metavar="INT")]
Device = Annotated[str, Option(help="auto, cpu, cuda (cuda:1, …) or mps.", metavar="NAME")]


class PictureSettings(TypedDict, total=False):
    """What `TextImageDataset.from_folder` is told of one's own pictures."""

    size: int
    caption: str
    fit: str
    background: str
    strict: bool


def picture_settings(
    data: Path | None,
    size: int | None = None,
    caption: str | None = None,
    fit: str | None = None,
    background: str | None = None,
    strict: bool = False,
) -> PictureSettings:
    """Those of the options that the command was given, which ask for --data."""
    settings = PictureSettings()
    if size is not None:
        settings["size"] = size
    if caption is not None:
        settings["caption"] = caption
    if fit is not None:
        settings["fit"] = fit
    if background is not None:
        settings["background"] = background
    if strict:
        settings["strict"] = True
    if settings and data is None:
        raise ValueError(f"expected --data FOLDER with --{next(iter(settings))}, got none")
    return settings


def picture_cache(folder: Path, size: int) -> Path:
    """Where a run keeps the pictures that it has decoded."""
    return folder / f"pictures-{size}"


def stage_steps(text: str) -> tuple[int, int, int]:
    """The steps of the three stages of training, from "300,1500,4000"."""
    words = [word.strip() for word in text.split(",")]
    numbers = [int(word) if word.isdecimal() and len(word) < 10 else 0 for word in words]
    if len(numbers) != 3 or min(numbers) < 1:
        raise ValueError(
            "--steps: expected three numbers of 1 or more and less than a thousand million, "
            f"like 300,1500,4000, got {text if len(text) < 60 else text[:60] + '…'!r}"
        )
    return numbers[0], numbers[1], numbers[2]


def read_prompts(file: Path, option: str = "--prompts-file") -> list[str]:
    """The lines of an option's text file that are not blank."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").split("\n")]
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{option}: expected a text file, got {file}, which does not exist"
        ) from None
    except OSError as error:
        raise ValueError(f"{option}: expected a text file, got {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{option}: expected UTF-8 text, got something else in {file}") from None
    if not any(lines):
        raise ValueError(f"{option}: expected one prompt a line, got none in {file}")
    return [line for line in lines if line]


def in_short(prompts: list[str]) -> str:
    """As a record has it: how many, and a number that others would not have."""
    return f"{len(prompts)} prompts, {zlib.crc32(repr(prompts).encode()):08x}"


def check_minutes(minutes: float) -> None:
    """A time that somebody may want to wait."""
    if not 0 < minutes <= A_YEAR:
        raise ValueError(
            f"--minutes: expected more than 0 and at most {A_YEAR:,} (a year), got {minutes}"
        )


def check_folder(folder: Path) -> None:
    """Fail before the work rather than after it: `folder` is, or can become, one that we may write
    to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"expected a folder to write to, got {folder}: {error.strerror}") from None


def check_file(file: Path, suffix: str) -> None:
    """The same for a file."""
    if file.suffix != suffix:
        raise ValueError(f"expected a file name that ends in {suffix}, got {file}")
    if file.is_dir():
        raise ValueError(f"expected a file to write, got the folder {file}")
    check_folder(file.parent)


def open_model(
    name: str,
    device: str,
    sampler: str | None = None,
    bad_guide: str | None = None,
    autoguidance: float | None = None,
    add: Callable[[StableDiffusionPipeline], StableDiffusionPipeline] | None = None,
) -> StableDiffusionPipeline:
    """The pipeline with the sampler and the bad guide asked for, on the device asked for.

    add: gives the model what is to be added to it, and not to its bad guide
    """
    from minildm.device import default_device
    from minildm.pipelines.autoguidance import AUTOGUIDANCE, AutoguidedPipeline
    from minildm.pipelines.stable_diffusion import StableDiffusionPipeline

    if autoguidance is not None and bad_guide is None:
        raise ValueError("expected --bad-guide with --autoguidance, got none")
    where = default_device(device)
    pipeline = StableDiffusionPipeline.from_pretrained(name)
    if add is not None:
        pipeline = add(pipeline)
    if bad_guide is not None:
        bad = StableDiffusionPipeline.from_pretrained(bad_guide)
        scale = AUTOGUIDANCE if autoguidance is None else autoguidance
        pipeline = AutoguidedPipeline(pipeline, bad, scale)
    if sampler is not None:
        pipeline.use_sampler(sampler)
    return pipeline.to(where)
