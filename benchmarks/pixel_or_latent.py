"""Would it take too long without the encoder? The same kind of U-Net, trained for about equal CPU
time on the pixels of 32 x 32 digits and on latents of several sizes, and scored by what it draws.
Chapter 07.

    python benchmarks/pixel_or_latent.py [CELL ...] [--runs runs/pixel_or_latent] [--out
    pixel_or_latent.json]

A cell is one space, one U-Net and one number of steps; one seed. The steps are fixed, and were
chosen so that the cells of a group take about equal time; what each did take is in the table.
"learned" is the shipped autoencoder's latent, its own training is on its card; all others are
principal components of blocks, which need none. Finished cells are kept in
--runs, so that an interrupted run goes on where it was, and several may share the work, with some
    of the cells each;
--out is written by the one that finds all of them there. About ten minutes of one core.
"""

import argparse
import time
from pathlib import Path

import torch
from cells import Cells
from torch import Tensor, nn

from minildm import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DModel,
    mnist,
)
from minildm.data import ImageData, crop
from minildm.evaluation import (
    BlockPCA,
    Pixels,
    cost,
    frechet_distance,
    sample_by_label,
)
from minildm.files import write_json
from minildm.models import ImageClassifier, extract
from minildm.pipelines import shipped
from minildm.training import DenoisingLoss, Trainer, encode_dataset, hardware, label_batches

SETTINGS = {
    "seed": 0,
    "train_images": 8_000,
    "batch_size": 32,
    "learning_rate": 2e-3,
    "ema": 0.1,
    "scheduler": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
    "num_inference_steps": 10,
    "samples": 200,
    "shown": 10,
}
# Space, widths of its U-Net, steps; "8x16" is a factor of 8 and 16 channels, so 4 x 4 x 16 numbers,
# each channel of variance 1; "one scale": all of them multiplied by one number.
CELLS = [
    ("pixels", (8, 16, 32, 64), 130),
    ("learned", (64, 128), 280),
    ("pixels", (8, 16, 32, 64), 390),
    ("8x16", (64, 128), 280),
    ("4x8", (32, 64), 300),
    ("8x16 one scale", (64, 128), 280),
    ("2x4", (16, 32, 64), 200),
    ("2x2", (16, 32, 64), 200),
]


def name_of(space: str, widths: tuple[int, ...], steps: int) -> str:
    return f"{space.replace(' ', '-')}-{'.'.join(map(str, widths))}-{steps}"


def space_of(name: str, images: Tensor) -> tuple[nn.Module, float]:
    """What encodes and decodes, and by what its latents are multiplied."""
    if name == "pixels":
        return Pixels(), 1.0
    if name == "learned":
        vae = StableDiffusionPipeline.from_pretrained("mnist").vae.eval()
        return vae, vae.config.scaling_factor
    size, _, one_scale = name.partition(" ")
    factor, channels = map(int, size.split("x"))
    return BlockPCA(images, factor, channels, whiten=not one_scale), 1.0


def new_unet(shape: tuple[int, int, int], widths: tuple[int, ...]) -> UNet2DModel:
    """A U-Net for (B, *shape) that is told one of ten classes."""
    torch.manual_seed(SETTINGS["seed"])
    return UNet2DModel(
        sample_size=shape[1],
        in_channels=shape[0],
        out_channels=shape[0],
        block_out_channels=tuple(widths),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        down_block_types=("DownBlock2D",) * len(widths),
        up_block_types=("UpBlock2D",) * len(widths),
        num_class_embeds=10,
    )


class Examiner:
    """The shipped examiner, and the features of all real test digits."""

    def __init__(self):
        self.network = (
            ImageClassifier.from_pretrained(shipped("mnist-examiner")).eval().requires_grad_(False)
        )
        self.reference = extract(self.network, mnist("test").images)[0]

    def score(self, pictures: Tensor, labels: Tensor) -> dict:
        """Fraction of (N, 1, 32, 32) that the examiner takes for its label, and Fréchet distance to
        the real ones."""
        features, classes = extract(self.network, crop(pictures.clamp(-1, 1)))
        accuracy = (classes == labels).float().mean().item()
        return {
            "accuracy": round(accuracy, 4),
            "frechet": round(frechet_distance(features, self.reference), 3),
        }


def as_bytes(pictures: Tensor) -> str:
    """The first pictures, 28 x 28, as hexadecimal bytes."""
    shown = crop(pictures[: SETTINGS["shown"]].clamp(-1, 1))
    return bytes(((shown + 1) * 127.5).round().byte().flatten().tolist()).hex()


def measure(
    name: str,
    widths: tuple[int, ...],
    steps: int,
    train: ImageData,
    test: ImageData,
    examiner: Examiner,
) -> dict:
    """Encode, train one denoiser, and score what it draws: plain numbers and its first pictures."""
    images, labels = (part[: SETTINGS["train_images"]] for part in train[:2])
    start = time.process_time()
    space, factor = space_of(name, images)
    mean, std = encode_dataset(space, images, progress=False)
    encoding = time.process_time() - start

    shape, seed, count = tuple(mean.shape[1:]), SETTINGS["seed"], SETTINGS["samples"]
    unet = new_unet(shape, widths)
    batches = label_batches(mean * factor, std * factor, labels, SETTINGS["batch_size"], seed)
    start = time.process_time()
    trainer = Trainer(
        name_of(name, widths, steps),
        DenoisingLoss(unet, DDPMScheduler(**SETTINGS["scheduler"])),
        batches,
        learning_rate=SETTINGS["learning_rate"],
        ema=SETTINGS["ema"],
    )
    losses = trainer.train(steps, progress=False)
    seconds = time.process_time() - start

    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
    asked = torch.arange(count) % 10
    sampler = DPMSolverMultistepScheduler(**SETTINGS["scheduler"], timestep_spacing="trailing")
    start = time.process_time()
    z = sample_by_label(unet, sampler, noise, asked, SETTINGS["num_inference_steps"])
    with torch.no_grad():
        pictures = space.decode(z / factor)
    sampling = time.process_time() - start

    with torch.no_grad():
        rebuilt = space.decode(space.encode(test.images[:count]).mean)
    error = (rebuilt - test.images[:count]).square().mean().item()
    return {
        "space": name,
        "shape": list(shape),
        "widths": list(widths),
        "steps": steps,
        "encoding_seconds": round(encoding, 1),
        "seconds": round(seconds, 1),
        "sampling_seconds": round(sampling, 2),
        "loss": round(sum(losses[-30:]) / len(losses[-30:]), 4),
        **cost(unet, noise[:1], torch.zeros(1), torch.zeros(1, dtype=torch.long))._asdict(),
        **examiner.score(pictures, asked),
        "rebuilt": {
            "squared_error": round(error, 5),
            **examiner.score(rebuilt, test.labels[:count]),
        },
        "pictures": as_bytes(pictures),
    }


def table(cells: list[dict]) -> str:
    """A line for each cell."""
    lines = [
        f"{'space':15}{'U-Net':>16}{'steps':>7}{'CPU s':>8}{'accuracy':>10}{'Fréchet':>9}"
        f"{'of rebuilt':>12}"
    ]
    for cell in cells:
        widths = ".".join(map(str, cell["widths"]))
        lines.append(
            f"{cell['space']:15}{widths:>16}{cell['steps']:7}{cell['seconds']:8.1f}"
            f"{cell['accuracy']:10.1%}{cell['frechet']:9.1f}{cell['rebuilt']['frechet']:12.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    names = [name_of(*cell) for cell in CELLS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "cells", nargs="*", metavar="CELL", help=f"of: {', '.join(names)} (default: all)"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/pixel_or_latent"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if unknown := set(options.cells) - set(names):
        parser.error(f"expected cells of {', '.join(names)}, got {', '.join(sorted(unknown))}")

    try:
        cells = Cells(options.runs, SETTINGS)
    except ValueError as error:
        parser.error(str(error))
    train, test = (mnist(split, size=32) for split in ("train", "test"))
    examiner = Examiner()

    for name, cell in zip(names, CELLS, strict=True):
        if name in (options.cells or names):
            cells.measure(name, lambda c=cell: measure(*c, train, test, examiner))
    if missing := cells.missing(names):
        print(f"{options.out} is not written: {len(missing)} cells to come, {missing[0]} first")
        return

    measured = cells.read(names)
    card = StableDiffusionPipeline.from_pretrained(
        "mnist"
    ).card  # of the autoencoder called "learned"
    learned = {key: card[key]["autoencoder"] for key in ("steps", "seconds")}
    count = SETTINGS["samples"]
    floor = examiner.score(train.images[:count], train.labels[:count])
    surroundings = {
        "hardware": hardware(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "floor": floor,
    }
    write_json(
        options.out, {"settings": SETTINGS, **surroundings, "learned": learned, "cells": measured}
    )
    print(table(measured))


if __name__ == "__main__":
    main()
