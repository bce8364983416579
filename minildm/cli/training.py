"""`minildm train`: a model from random weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from typer import Option

from minildm.cli.app import TRAIN, app
from minildm.cli.errors import at_once
from minildm.cli.options import Device, Seed, check_folder, folder_name, stage_steps


@app.command(rich_help_panel=TRAIN)
def train(
    out: Annotated[
        Path,
        Option(
            help="The folder to write, in diffusers' layout.", parser=folder_name, metavar="FOLDER"
        ),
    ],
    preset: Annotated[str, Option(help="The recipe.")] = "mnist",
    minutes: Annotated[float, Option(help="Training time over all stages.")] = 4,
    steps: Annotated[
        str | None,
        Option(
            help="Steps of each stage, instead of --minutes.",
            metavar="PERCEPTUAL_NET,AUTOENCODER,DENOISER",
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
        bool, Option("--resume", help="Continue what was interrupted in --out.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Train autoencoder, text encoder and U-Net from random weights."""
    counts = stage_steps(steps) if steps is not None else None
    check_folder(out)
    with at_once():
        from minildm.training import runs

    if not 0 < minutes <= runs.A_YEAR:
        raise ValueError(
            f"--minutes: expected more than 0 and at most {runs.A_YEAR:,} (a year), got {minutes}"
        )
    try:
        runs.train(
            preset,
            out,
            minutes=minutes,
            steps=counts,
            seed=seed,
            resume=resume,
            device=device,
            snapshot=snapshot,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; the same command with --resume goes on from here") from None
    if os.environ.get("RANK", "0") == "0":  # one of several processes says it
        print(f'trained: {out}, which draws with: minildm sample "…" --model {out}')
