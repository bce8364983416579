"""What is the shipped `cifar10` model worth? Beside it, with the same examiner and as many
pictures: what needs no training (the mean of a class; a bell around it, in pixels and in latents),
photographs that its decoder rebuilt, and a GAN, which has as much CPU time as the model's training
took. And what guidance and steps change. Chapter 17.

    minildm data cifar10
    python benchmarks/cifar10.py [CELL ...] [--minutes 120] [--runs runs/cifar10] [--out
    benchmarks/cifar10.json]

A cell is one row. Finished cells are kept in --runs, so that an interrupted run goes on where it
was, and several may share the work, with some of the cells each; --out is written by the one that
finds all of them there. About twenty minutes of one core, and an hour for the GAN (on a machine
that is too busy, --minutes of the clock end it). Its CPU seconds are in the table, and its row is
the best of all that were scored on the way; beside --out come its first pictures, as a PNG. One
training seed.
"""

import argparse
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import torch
from cells import Cells
from torch import Tensor

from minildm import StableDiffusionPipeline, cifar10
from minildm.data import ImageData, from_pixels, to_pixels
from minildm.evaluation import (
    balanced_prompts,
    balanced_subset,
    sample_as_saved,
    sample_gaussians,
    score,
)
from minildm.files import write_json
from minildm.models import ImageClassifier, extract
from minildm.pipelines import shipped
from minildm.plots import save_grid
from minildm.training import encode_dataset, hardware
from minildm.variations import GANDiscriminator, GANGenerator, GANTraining, sample_gan

SETTINGS = {
    "model": "cifar10",
    "seed": 0,
    "samples": 2000,  # of every row of the table
    "sweep_samples": 1000,  # of the rows below it
    "guidance": [1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0],
    "steps": [4, 6, 10, 15, 25],
    "looked_up": 500,  # pictures whose nearest training picture is sought
    "neighbours": 50,
    # Narrow, so that many steps fit into the time. Of three penalties (0.1, 1 and 10; 160 CPU
    # seconds each, seed 0)
    # this one had come nearest: Fréchet distances of 1431, 1339 and 1287 on 1,000 pictures.
    "gan": {
        "block_out_channels": [[32, 64, 128], [32, 64, 128]],  # of generator and discriminator
        "batch_size": 32,
        "learning_rates": [1e-3, 1e-3],
        "r1": 10.0,
        "scored_every": 120,  # CPU seconds
    },
}
BASELINES = ["real", "rebuilt", "class mean", "pixel bell", "latent bell"]


def rounded(numbers: dict) -> dict:
    return {
        key: round(value, 5) if isinstance(value, float) else value
        for key, value in numbers.items()
    }


class Bench:
    """What all cells share: the photographs, the model, the examiner."""

    def __init__(self):
        self.pipeline = StableDiffusionPipeline.from_pretrained(SETTINGS["model"])
        self.examiner = (
            ImageClassifier.from_pretrained(shipped("cifar10-examiner"))
            .eval()
            .requires_grad_(False)
        )
        self.train, self.test = (
            cifar10("train", full=True),
            cifar10("test"),
        )  # scores are those of `minildm evaluate`
        self.floor_of = cifar10("train")
        self.reference = extract(self.examiner, self.test.images)[0]
        self.labels = torch.arange(SETTINGS["samples"]) % 10
        self._latents: Tensor | None = None

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(SETTINGS["seed"])

    def latents(self) -> Tensor:
        """The mean of every training picture's latent, (50000, C, h, w)."""
        if self._latents is None:
            self._latents = encode_dataset(self.pipeline.vae.eval(), self.train.images)[0]
        return self._latents

    def decode(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.pipeline.vae.decode(part) for part in z.split(250)]).clamp(-1, 1)

    def real(self, samples: int) -> ImageData:
        """As many training pictures, balanced over the classes: the floor."""
        chosen = balanced_subset(self.floor_of.labels, samples)
        return ImageData(
            self.floor_of.images[chosen], self.floor_of.labels[chosen], self.floor_of.classes
        )

    def baseline(self, name: str) -> tuple[Tensor, Tensor]:
        """Pictures of this name, and the classes that they should show."""
        real, labels = self.real(SETTINGS["samples"]), self.labels
        if name == "real":
            return real.images, real.labels
        if name == "rebuilt":
            return self.decode(
                encode_dataset(self.pipeline.vae.eval(), real.images)[0]
            ), real.labels
        if name == "class mean":
            means = [self.train.images[self.train.labels == label].mean(0) for label in range(10)]
            return torch.stack(means)[labels], labels
        if name == "pixel bell":
            return sample_gaussians(
                self.train.images, self.train.labels, labels, self.generator()
            ).clamp(-1, 1), labels
        return self.decode(
            sample_gaussians(self.latents(), self.train.labels, labels, self.generator())
        ), labels

    def draw(self, samples: int, guidance: float, steps: int) -> tuple[Tensor, Tensor, float]:
        """The shipped model's pictures, their labels, and the seconds that they took."""
        prompts, labels = balanced_prompts("cifar10", samples)
        images, seconds = sample_as_saved(
            self.pipeline, prompts, steps, guidance, self.generator(), progress=False
        )
        return images, labels, seconds

    def scores(self, images: Tensor, labels: Tensor) -> dict:
        """As `minildm evaluate` takes them: of pictures as they would be saved."""
        images = from_pixels(to_pixels(images))
        return rounded(asdict(score(self.examiner, images, labels, self.reference)))

    def confusion(self, images: Tensor, labels: Tensor) -> list[list[int]]:
        """How often a picture of class i is taken for class j: row i, column j."""
        seen = extract(self.examiner, images)[1]
        return torch.bincount(labels * 10 + seen, minlength=100).view(10, 10).tolist()

    def looked_up(self, images: Tensor) -> dict:
        """How near are the nearest of all training pictures? Root mean square per pixel, and as a
        share of how far the
        next ones are on average: a copy has a near 0 share, however smooth the picture is."""
        flat = self.train.images.flatten(1)
        count = SETTINGS["neighbours"] + 1
        few = images[: SETTINGS["looked_up"]].flatten(1).split(100)
        found = torch.cat(
            [torch.cdist(part, flat).topk(count, largest=False).values for part in few]
        )
        share = found[:, 0] / found[:, 1:].mean(1)
        distance = found[:, 0] / flat.shape[1] ** 0.5
        return rounded(
            {"distance": distance.median().item(), "share": share.median().item()}
        ) | rounded({"least_share": share.min().item()})


def train_gan(bench: Bench, minutes: float, folder: Path) -> dict:
    """Train, and score every few minutes the average of the generator's weights."""
    options, clock = dict(SETTINGS["gan"]), time.monotonic()
    widths, every = options.pop("block_out_channels"), options.pop("scored_every")
    torch.manual_seed(SETTINGS["seed"])
    players = (
        GANGenerator(out_channels=3, block_out_channels=widths[0]),
        GANDiscriminator(32, 3, 10, widths[1]),
    )
    training = GANTraining(
        *players, bench.train.images, bench.train.labels, SETTINGS["seed"], **options
    )
    budget, trail = sum(bench.pipeline.card["seconds"].values()), []
    while training.seconds < budget and (not trail or time.monotonic() - clock < 60 * minutes):
        training.run(seconds=min(every, budget - training.seconds), progress=False)
        images = sample_gan(training.averaged(), bench.labels, bench.generator()).clamp(-1, 1)
        result = {
            "scores": bench.scores(images, bench.labels),
            "confusion": bench.confusion(images, bench.labels),
        }
        trail.append({"steps": training.step, "cpu_seconds": round(training.seconds, 1), **result})
        if trail[-1] is min(trail, key=lambda point: point["scores"]["frechet"]):
            save_grid(images[:20], folder / "gan.png", ncols=10, gap=0)
        write_json(folder / "gan-trail.partial", {"trail": trail})
        print(f"gan: {training.seconds:.0f} s of {budget:.0f}, {trail[-1]['scores']}", flush=True)
    return {
        "budget": round(budget, 1),
        "parameters": [sum(p.numel() for p in player.parameters()) for player in players],
        "trail": trail,
        **min(trail, key=lambda point: point["scores"]["frechet"]),
    }


def names() -> list[str]:
    """Of all cells, in the order of the table."""
    sweeps = [f"guidance {g:g}" for g in SETTINGS["guidance"]] + [
        f"steps {n}" for n in SETTINGS["steps"]
    ]
    return [*BASELINES, "shipped", "gan", "nearest", "floor", *sweeps]


def measure(bench: Bench, name: str, minutes: float, folder: Path) -> dict:
    """One cell."""
    start, defaults = time.process_time(), bench.pipeline.card
    if name == "gan":
        return {"name": name, **train_gan(bench, minutes, folder)}
    if name == "nearest":
        test = bench.test.images[
            torch.randperm(len(bench.test.images), generator=bench.generator())
        ]
        real = bench.real(SETTINGS["samples"]).images
        drawn = bench.draw(
            SETTINGS["looked_up"], defaults["guidance_scale"], defaults["num_inference_steps"]
        )[0]
        vae = bench.pipeline.vae.eval()
        crowds = {
            "drawn": drawn,
            "test": test,
            "test, rebuilt": bench.decode(encode_dataset(vae, test)[0]),
        }
        crowds |= {"latent bell": bench.baseline("latent bell")[0]}
        crowds |= {"training, rebuilt": bench.decode(encode_dataset(vae, real)[0])}
        result = {crowd: bench.looked_up(images) for crowd, images in crowds.items()}
    elif name == "floor":
        result = {
            "scores": bench.scores(*bench.real(SETTINGS["sweep_samples"])[:2]),
            "test_accuracy": (extract(bench.examiner, bench.test.images)[1] == bench.test.labels)
            .float()
            .mean()
            .item(),
            "confusion": bench.confusion(bench.test.images, bench.test.labels),
        }
    elif name in BASELINES:
        images, labels = bench.baseline(name)
        result = {
            "scores": bench.scores(images, labels),
            "confusion": bench.confusion(images, labels),
        }
    else:
        kind, _, number = name.partition(" ")
        samples = SETTINGS["samples"] if name == "shipped" else SETTINGS["sweep_samples"]
        guidance = float(number) if kind == "guidance" else defaults["guidance_scale"]
        steps = int(number) if kind == "steps" else defaults["num_inference_steps"]
        images, labels, _ = bench.draw(samples, guidance, steps)
        result = {"guidance": guidance, "steps": steps, "samples": samples}
        result |= {
            "scores": bench.scores(images, labels),
            "confusion": bench.confusion(images, labels),
        }
    return {"name": name, **result, "cpu_seconds": round(time.process_time() - start, 1)}


def table(cells: list[dict]) -> str:
    floor = cells[0]["scores"]["frechet"]
    lines = [f"{'':16}{'right':>8}{'Fréchet':>10}{'x floor':>9}{'precision':>11}{'recall':>8}"]
    for cell in cells:
        if s := cell.get("scores"):
            numbers = f"{s['accuracy']:8.1%}{s['frechet']:10.1f}{s['frechet'] / floor:9.1f}"
            lines.append(f"{cell['name']:16}{numbers}{s['precision']:11.3f}{s['recall']:8.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "cells", nargs="*", metavar="CELL", help="those to measure; all of them if none is named"
    )
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--runs", type=Path, default=Path("runs/cifar10"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if unknown := set(options.cells) - set(names()):
        parser.error(f"expected cells of {', '.join(names())}, got {', '.join(sorted(unknown))}")
    try:
        cells = Cells(options.runs, SETTINGS)
    except ValueError as error:
        parser.error(str(error))

    bench = Bench()
    for name in options.cells or names():
        cells.measure(name, lambda n=name: measure(bench, n, options.minutes, options.runs))
    if missing := cells.missing(names()):
        print(f"{options.out} is not written: {len(missing)} cells to come, {missing[0]} first")
        return
    measured = cells.read(names())
    made = {
        "command": "python benchmarks/cifar10.py",
        "hardware": hardware(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "card": {key: bench.pipeline.card[key] for key in ("seconds", "steps", "threads")},
    }
    write_json(options.out, {"settings": SETTINGS, **made, "cells": measured})
    shutil.copyfile(options.runs / "gan.png", options.out.with_name(f"{options.out.stem}_gan.png"))
    print(table(measured))


if __name__ == "__main__":
    main()
