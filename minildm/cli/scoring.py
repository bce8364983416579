"""`minildm evaluate`: how good a model is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from minildm.cli.app import DRAW, app
from minildm.cli.errors import at_once
from minildm.cli.options import (
    Autoguidance,
    BadGuide,
    Device,
    Guidance,
    GuidanceStart,
    Model,
    Sampler,
    Seed,
    Steps,
    check_file,
    integer,
    open_model,
)
from minildm.files import write_json


@app.command(rich_help_panel=DRAW)
def evaluate(
    model: Model = "mnist",
    samples: Annotated[
        int, Option(help="How many to draw, balanced.", parser=integer, metavar="INT")
    ] = 1000,
    sampler: Sampler = None,
    steps: Steps = None,
    guidance: Guidance = None,
    guidance_start: GuidanceStart = None,
    bad_guide: BadGuide = None,
    autoguidance: Autoguidance = None,
    seed: Seed = 0,
    full: Annotated[
        bool, Option("--full", help="Beside all of CIFAR-10, not its bundled tenth.")
    ] = False,
    json_file: Annotated[
        Path | None, Option("--json", help="Write the scores there too.", metavar="FILE")
    ] = None,
    device: Device = "auto",
) -> None:
    """Score a model's pictures, beside as many real ones."""
    if json_file is not None:
        check_file(json_file, ".json")
    with at_once():
        from minildm.evaluation import evaluation

    pipeline = open_model(model, sampler, device, bad_guide, autoguidance)
    result = evaluation.evaluate(
        pipeline, samples, seed, steps, guidance, guidance_start, full=full
    )
    print(result)
    if json_file is not None:
        asked = {"model": model, "full": full} | ({"bad_guide": bad_guide} if bad_guide else {})
        write_json(json_file, asked | result.as_dict())
