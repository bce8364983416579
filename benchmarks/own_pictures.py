"""What the recipe for one's own pictures at 64 x 64 reaches: a folder of letters from matplotlib's
own fonts is painted, trained on and scored beside the letters held out.

    python benchmarks/own_pictures.py [--runs runs/own_pictures]

The steps are those of about half an hour of one thread, so that a busy machine trains the same.
"""

import argparse
import random
from pathlib import Path

import matplotlib
import torch
from PIL import Image, ImageDraw, ImageFont

from minildm.data import TextImageDataset
from minildm.evaluation import evaluate_pictures
from minildm.files import write_json
from minildm.plots import save_grid
from minildm.training import examiner_for, hardware, recipe_for, train

SETTINGS = {
    "size": 64,
    "letters": 10_400,
    "steps": [300, 2000, 4000],
    "guidance": [1.0, 2.0, 3.0, 4.0],
    "samples": 1000,
}
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol",
    "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10",
)  # fmt: skip
INKS = ("black", "crimson", "royalblue", "seagreen", "darkorange", "purple")
GROUNDS = ("white", "lightyellow", "lavender", "mistyrose")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def paint_letter(letter: str, size: int, chance: random.Random) -> Image.Image:
    """One letter, turned by up to 15 degrees, in a colour on a ground."""
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(str(fonts / f"{chance.choice(FONTS)}.ttf"), 2 * size)
    mask = Image.new("L", (4 * size, 4 * size))
    ImageDraw.Draw(mask).text((2 * size, 2 * size), letter, 255, font, anchor="mm")
    mask = mask.rotate(chance.uniform(-15, 15), Image.Resampling.BICUBIC)
    left, top, right, bottom = mask.getbbox()
    scale = size * chance.uniform(0.6, 0.85) / max(right - left, bottom - top)
    sides = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    ink = mask.crop((left, top, right, bottom)).resize(sides, Image.Resampling.LANCZOS)
    x, y = ((size - side) // 2 + round(chance.uniform(-0.06, 0.06) * size) for side in (ink.size))
    picture = Image.new("RGB", (size, size), chance.choice(GROUNDS))
    picture.paste(Image.new("RGB", ink.size, chance.choice(INKS)), (x, y), ink)
    return picture


def paint_folder(folder: Path, number: int, size: int) -> None:
    """`number` letters as PNG files, a folder a letter; every tenth of a letter's is held out."""
    chance = random.Random(0)
    for i in range(number):
        letter, turn = LETTERS[i % len(LETTERS)], i // len(LETTERS)
        place = folder / ("train" if turn % 10 else "test") / letter
        place.mkdir(parents=True, exist_ok=True)
        paint_letter(letter, size, chance).save(place / f"{i:05}.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/own_pictures"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    letters, model = options.runs / "letters", options.runs / "model"
    if not letters.is_dir():
        unfinished = options.runs / "unfinished"
        paint_folder(unfinished, SETTINGS["letters"], SETTINGS["size"])
        unfinished.rename(letters)
    data, held_out = (
        TextImageDataset.from_folder(
            letters,
            split,
            size=SETTINGS["size"],
            caption="the letter {class}",
            cache=options.runs / "pictures",
        )
        for split in ("train", "test")
    )
    steps = tuple(SETTINGS["steps"])
    pipeline = train(recipe_for(data), model, steps=steps, data=data, resume=True, device="cpu")
    examiner = examiner_for(data, model / "examiner")
    cells = []
    for scale in SETTINGS["guidance"]:
        result = evaluate_pictures(
            pipeline, data, held_out, examiner, SETTINGS["samples"], guidance_scale=scale
        )
        print(result, end="\n\n")
        cells.append(result.as_dict())
    generator = torch.Generator().manual_seed(0)
    drawn = pipeline([f"the letter {letter}" for letter in LETTERS], generator=generator)
    save_grid(drawn, options.runs / "letters.png", ncols=9, scale=2)
    write_json(
        options.out,
        {"settings": SETTINGS, "hardware": hardware(torch.device("cpu")), "cells": cells},
    )


if __name__ == "__main__":
    main()
