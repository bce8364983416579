"""`minildm train`: a model from random weights."""

from __future__ import annotations

import os
import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from minildm.cli.app import TRAIN, app
from minildm.cli.options import (
    DEFAULT_SIZE,
    Data,
    Device,
    GivenBackground,
    GivenCaption,
    GivenFit,
    GivenSize,
    PictureSettings,
    Seed,
    Strict,
    check_folder,
    check_minutes,
    folder_name,
    picture_cache,
    picture_settings,
    stage_steps,
)
from minildm.cli.task import example
from minildm.errors import at_once

if TYPE_CHECKING:
    from minildm.data.text_image import TextImageDataset


@app.command(rich_help_panel=TRAIN)
def train(
    out: Annotated[
        Path,
        Option(
            help="The folder to write, in diffusers' layout.", parser=folder_name, metavar="FOLDER"
        ),
    ],
    preset: Annotated[
        str | None,
        Option(help="A recipe of a named data set; mnist without --data.", metavar="NAME"),
    ] = None,
    data: Data = None,
    size: GivenSize = None,
    caption: GivenCaption = None,
    fit: GivenFit = None,
    background: GivenBackground = None,
    strict: Strict = False,
    minutes: Annotated[
        float | None,
        Option(
            help="Training time over all stages: by default 4, and 30 for pictures of 64 pixels.",
            show_default=False,
            metavar="FLOAT",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        Option(
            help="Steps of perceptual net, autoencoder and denoiser, such as 300,1500,4000, "
            "instead of --minutes.",
            metavar="N,N,N",
        ),
    ] = None,
    seed: Seed = 0,
    snapshot: Annotated[
        float | None,
        Option(
            help="After this part of the U-Net's steps keep a bad guide in OUT/snapshot.",
            metavar="PART",
        ),
    ] = None,
    resume: Annotated[
        bool, Option("--resume", help="Continue what was interrupted in --out.", metavar="")
    ] = False,
    device: Device = "auto",
) -> None:
    """Train autoencoder, text encoder and U-Net from random weights."""
    counts = stage_steps(steps) if steps is not None else None
    settings = picture_settings(data, size, caption, fit, background, strict)
    if data is not None and preset is not None:
        raise ValueError(
            "expected --data or --preset, got both; the recipe for your own pictures goes by --size"
        )
    check_folder(out)
    with at_once():
        from minildm.training import own_pictures, runs

    if minutes is None:
        minutes = 30 if size == 64 else 4
    check_minutes(minutes)
    try:
        pictures = None if data is None else read_own(data, out, device, resume, settings)
        runs.train(
            own_pictures.recipe_for(pictures) if pictures else preset or "mnist",
            out,
            minutes=minutes,
            steps=counts,
            seed=seed,
            resume=resume,
            device=device,
            snapshot=snapshot,
            data=pictures,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; the same command with --resume goes on from here") from None
    if os.environ.get("RANK", "0") == "0":  # one of several processes says it
        prompt = "…" if pictures is None else example(pictures)
        words = ["minildm", "sample", prompt, "--model", str(out)]
        print(f"trained: {out}, which draws with: {shlex.join(words)}")


def read_own(
    folder: Path, out: Path, device: str, resume: bool, settings: PictureSettings
) -> TextImageDataset:
    """A folder's training pictures, decoded once into `out`; of several processes one does it."""
    from minildm.data.text_image import TextImageDataset
    from minildm.training.own_pictures import RECIPES
    from minildm.training.runs import LOG_FILE
    from minildm.training.state import check_unused
    from minildm.training.trainer import open_accelerator

    size = settings.get("size", DEFAULT_SIZE)
    if size not in RECIPES:
        raise ValueError(f"--size: expected {' or '.join(map(str, RECIPES))}, got {size}")
    if not resume:
        check_unused(out / LOG_FILE)
    accelerator = open_accelerator(device, None, ())
    main = accelerator.is_main_process
    with accelerator.main_process_first(), warnings.catch_warnings():
        if not main:
            warnings.simplefilter("ignore")  # it has been said
        pictures = TextImageDataset.from_folder(
            folder, cache=picture_cache(out, size), progress=main, **settings
        )
    if main:
        print(f"training on {in_words(pictures)}")
    return pictures


def in_words(pictures: TextImageDataset) -> str:
    """What is trained on, a line."""
    count, channels, height, width = pictures.images.shape
    kind = "grey" if channels == 1 else "colour"
    classes = f", {len(pictures.classes)} classes" if pictures.classes else ""
    return (
        f'{count:,} pictures{classes}, {width} x {height} in {kind}, such as "{example(pictures)}"'
    )
