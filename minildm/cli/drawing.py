"""`minildm sample`: prompts to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from minildm.cli.adding import (
    Control,
    ControlNet,
    DrawnBackground,
    DrawnFit,
    Lora,
    Mask,
    Photo,
    Strength,
    Word,
    add,
    read_additions,
    starting_pictures,
)
from minildm.cli.app import DRAW, app
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
    read_prompts,
)
from minildm.errors import at_once
from minildm.files import whole

MOST_IMAGES = 100_000  # more than 1 GB of them at 32 x 32


@app.command(rich_help_panel=DRAW)
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
    lora: Lora = None,
    word: Word = None,
    control: Control = None,
    controlnet: ControlNet = None,
    image: Photo = None,
    strength: Strength = None,
    mask: Mask = None,
    fit: DrawnFit = None,
    background: DrawnBackground = None,
) -> None:
    """Draw prompts."""
    added = read_additions(lora, word, control, controlnet, image, strength, mask, fit, background)
    texts = [*(prompts or []), *(read_prompts(prompts_file) if prompts_file else [])]
    if not texts:
        raise ValueError(
            "expected a prompt, such as: minildm sample 'a handwritten seven'; got none"
        )
    if len(texts) * num > MOST_IMAGES:
        raise ValueError(
            f"expected at most {MOST_IMAGES:,} images at once, got {len(texts)} prompts and --num "
            f"{num}; draw them in parts, each with another --seed"
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

    pipeline = open_model(
        model,
        device,
        sampler,
        bad_guide,
        autoguidance,
        add=lambda opened: add(opened, model, added, texts),
    )
    generator = torch.Generator().manual_seed(seed)
    images = pipeline(
        texts,
        num_inference_steps=steps,
        guidance_scale=guidance,
        guidance_start=guidance_start,
        negative_prompt=negative,
        num_images_per_prompt=num,
        generator=generator,
        **starting_pictures(pipeline, added, steps),
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
