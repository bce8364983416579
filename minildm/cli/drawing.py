"""`minildm sample`: prompts to pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Option

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
    check_folder,
    folder_name,
    in_short,
    integer,
    open_model,
    read_prompts,
)
from minildm.cli.saving import Folder, check_grid, saving
from minildm.errors import at_once

MOST_IMAGES = 10_000_000  # whoever wants more has mistyped
WRITTEN = "Where the images go"
BATCH = 250  # images that are drawn at a time
BESIDE = ("prompts_file", "device", "out", "npz", "folder", "resume")  # what is drawn is the same


@app.command(rich_help_panel=DRAW)
def sample(
    context: Context,
    prompts: Annotated[
        list[str] | None, Argument(metavar="PROMPT…", help='Such as "a handwritten seven".')
    ] = None,
    prompts_file: Annotated[
        Path | None,
        Option(help="A text file, one prompt a line; blank lines count not.", metavar="FILE"),
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
        Path | None,
        Option(
            help="All images in one picture; without --npz and --folder, grid.png.",
            metavar="FILE",
            rich_help_panel=WRITTEN,
        ),
    ] = None,
    npz: Annotated[
        Path | None,
        Option(
            help="The images as numbers: `images`, uint8, and `prompts`.",
            metavar="FILE",
            rich_help_panel=WRITTEN,
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        Option(
            help="Each image as a file, with its prompt in metadata.jsonl, as --data reads them; "
            "written as they are drawn.",
            parser=folder_name,
            metavar="FOLDER",
            rich_help_panel=WRITTEN,
        ),
    ] = None,
    resume: Annotated[
        bool,
        Option(
            "--resume",
            help="Continue what was interrupted in --folder.",
            metavar="",
            rich_help_panel=WRITTEN,
        ),
    ] = False,
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
    total = len(texts) * num
    if num < 1:
        raise ValueError(f"--num: expected 1 or more, got {num}")
    if total > MOST_IMAGES:
        raise ValueError(
            f"expected at most {MOST_IMAGES:,} images, got {len(texts)} prompts and --num {num}"
        )
    if resume and (folder is None or out or npz):
        raise ValueError("expected --folder with --resume, and neither --out nor --npz")
    if out is None and npz is None and folder is None:
        out = Path("grid.png")
    for file, suffix in ((out, ".png"), (npz, ".npz")):
        if file is not None:
            check_file(file, suffix)
    begun = None
    if folder is not None:
        check_folder(folder)
        options = {name: str(value) for name, value in context.params.items() if name not in BESIDE}
        begun = Folder(folder, total, options | {"prompts": in_short(texts)}, resume)
        if begun.drawn == total:
            print(f"{folder} is finished: there is nothing to go on with")
            return
    with at_once():
        import torch
        from tqdm.auto import tqdm

        from minildm.data.images import to_pixels
        from minildm.variations.fitting import picture_size

    pipeline = open_model(
        model,
        device,
        sampler,
        bad_guide,
        autoguidance,
        add=lambda opened: add(opened, model, added, texts),
    )
    if out is not None:
        check_grid(total, picture_size(pipeline))
    generator = torch.Generator().manual_seed(seed)
    draw = partial(
        pipeline,
        num_inference_steps=steps,
        guidance_scale=guidance,
        guidance_start=guidance_start,
        negative_prompt=negative,
        generator=generator,
        progress=total <= BATCH,
        **starting_pictures(pipeline, added, steps),
    )
    first = begun.drawn if begun is not None else 0
    bar = tqdm(total=total, initial=first, unit="image", disable=total <= BATCH)
    try:
        with saving(out, npz, begun, texts, num, generator) as save, bar:
            for begin in range(first, total, BATCH):
                some = [texts[i // num] for i in range(begin, min(begin + BATCH, total))]
                save(to_pixels(draw(some), pipeline.card.get("image_size")), some)
                bar.update(len(some))
    except KeyboardInterrupt:
        go_on = "; the same command with --resume goes on from here" if begun is not None else ""
        raise KeyboardInterrupt(go_on) from None
    print(f"{total:,} image{'s' * (total > 1)}:", *(file for file in (out, npz, folder) if file))
