"""The command line: `minildm train`, `sample`, `evaluate` and `data`. `--help` imports no torch."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from minildm.cli.errors import OneLineErrors, at_once
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
    check_folder,
    integer,
    read_prompts,
    stage_steps,
)
from minildm.files import whole, write_json

if TYPE_CHECKING:
    from minildm.pipelines.stable_diffusion import StableDiffusionPipeline


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, sample and score latent diffusion models.",
)


@app.command()
def train(
    out: Annotated[Path, Option(help="The folder to write, in diffusers' layout.")],
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
    if not 0 < minutes < math.inf:
        raise ValueError(f"--minutes: expected more than 0, got {minutes}")
    check_folder(out)
    with at_once():
        from minildm.training import runs

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


@app.command()
def sample(
    prompts: Annotated[
        list[str] | None, Argument(metavar="PROMPT…", help='Such as "a handwritten seven".')
    ] = None,
    prompts_file: Annotated[
        Path | None, Option(help="A text file, one prompt a line; blank lines count not.")
    ] = None,
    model: Model = "mnist",
    sampler: Sampler = None,
    steps: Steps = None,
    guidance: Guidance = None,
    guidance_start: GuidanceStart = None,
    bad_guide: BadGuide = None,
    autoguidance: Autoguidance = None,
    negative: Annotated[str | None, Option(help="What not to draw.", metavar="TEXT")] = None,
    num: Annotated[int, Option(help="Images for each prompt.", parser=integer, metavar="INT")] = 1,
    seed: Seed = 0,
    out: Annotated[
        Path | None, Option(help="The images in one picture; without --npz, grid.png.")
    ] = None,
    npz: Annotated[
        Path | None, Option(help="The images as numbers: `images`, uint8, and `prompts`.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Draw prompts."""
    texts = [*(prompts or []), *(read_prompts(prompts_file) if prompts_file else [])]
    if not texts:
        raise ValueError(
            "expected a prompt, such as: minildm sample 'a handwritten seven'; got none"
        )
    if out is None and npz is None:
        out = Path("grid.png")
    for file, suffix in ((out, ".png"), (npz, ".npz")):
        if file is not None:
            check_file(file, suffix)
    with at_once():
        import numpy as np
        import torch
        from PIL import Image

        from minildm.data.images import to_pixels
        from minildm.plots.images import mosaic

    pipeline = open_model(model, sampler, device, bad_guide, autoguidance)
    generator = torch.Generator().manual_seed(seed)
    images = pipeline(
        texts,
        num_inference_steps=steps,
        guidance_scale=guidance,
        guidance_start=guidance_start,
        negative_prompt=negative,
        num_images_per_prompt=num,
        generator=generator,
    )
    pixels = to_pixels(images, pipeline.card.get("image_size"))
    if out is not None:
        columns = num if num > 1 else None  # a row a prompt, or nearly square
        with whole(out) as file:
            Image.fromarray(mosaic(pixels, columns, gap=0)).save(file, format="png")
    if npz is not None:
        repeated = np.array([text for text in texts for _ in range(num)])
        with whole(npz) as file:
            np.savez_compressed(file, images=pixels, prompts=repeated)
    print(f"{len(pixels)} images:", *(file for file in (out, npz) if file))


@app.command()
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


@app.command()
def data(
    dataset: Annotated[str, Argument(help="mnist, fashion_mnist or cifar10.", metavar="NAME")],
) -> None:
    """Show what there is of a data set, and where; download what is missing."""
    with at_once():
        from minildm.data import datasets

    if dataset not in datasets.LOADERS:
        raise ValueError(f"expected a data set of {', '.join(datasets.LOADERS)}, got {dataset!r}")
    sets = {"": datasets.LOADERS[dataset]}
    if dataset == "cifar10":
        sets = {" (subset)": datasets.cifar10, " (full)": partial(datasets.cifar10, full=True)}
    for name, load in sets.items():
        for split in ("train", "test"):
            images, _, classes = load(split)
            shape = "x".join(map(str, images.shape[1:]))
            what = f"{len(images):,} images {shape}, {len(classes)} classes"
            print(f"{dataset}{name} {split}: {what}")
    roots = [Path(os.environ.get("MINILDM_DATA") or os.devnull), Path.home() / ".cache/minildm"]
    there = [place for root in roots if (place := datasets.place_of(root, dataset))]
    there += [file.parent for file in (datasets.SOURCE_TREE / "data").glob(f"{dataset}-train.*")]
    print("in:", ", ".join(sorted({str(place) for place in there})))


def open_model(
    name: str, sampler: str | None, device: str, bad_guide: str | None, autoguidance: float | None
) -> StableDiffusionPipeline:
    """The pipeline with the sampler and the bad guide asked for, on the device asked for."""
    from minildm.device import default_device
    from minildm.pipelines.autoguidance import AUTOGUIDANCE, AutoguidedPipeline
    from minildm.pipelines.stable_diffusion import StableDiffusionPipeline

    if autoguidance is not None and bad_guide is None:
        raise ValueError("expected --bad-guide with --autoguidance, got none")
    where = default_device(device)
    pipeline = StableDiffusionPipeline.from_pretrained(name)
    if bad_guide is not None:
        bad = StableDiffusionPipeline.from_pretrained(bad_guide)
        scale = AUTOGUIDANCE if autoguidance is None else autoguidance
        pipeline = AutoguidedPipeline(pipeline, bad, scale)
    if sampler is not None:
        pipeline.use_sampler(sampler)
    return pipeline.to(where)
