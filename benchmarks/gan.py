"""Diffusion against GAN: a GAN in fourteen settings, a minute or two each, and the two best of them
for as long as the diffusion model trained, with three seeds; the one with the smaller batches
again, as long, at two learning rates, with as many parameters as the diffusion model has; beside it
that model (benchmarks/four_minutes.py trains it), its autoencoder with a bell for each class, and
real digits. Chapter 13.

    python benchmarks/gan.py [CELL ...] [--runs runs/gan] [--diffusion runs/four_minutes] [--out
    benchmarks/gan.json]

Steps are fixed; the seconds are CPU time of one thread. The diffusion model had four minutes of two
threads, of which the second makes a step 1.35 times as fast: 2,200 steps of the GAN, 1,100 with
batches of 64 and 750 of the wide pair take about as long on one. Finished cells are kept in --runs;
--out is written by the run that finds all of them there. About 110 minutes of one core.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import torch
from cells import Cells
from torch import Tensor

from minildm import StableDiffusionPipeline, mnist
from minildm.data import crop, from_pixels, pad, to_pixels
from minildm.evaluation import (
    balanced_prompts,
    balanced_subset,
    mode_coverage,
    sample_gaussians,
    score,
)
from minildm.files import write_json
from minildm.models import ImageClassifier, extract
from minildm.pipelines import shipped
from minildm.training import encode_dataset, hardware
from minildm.variations import GANDiscriminator, GANGenerator, GANTraining, sample_gan

SETTINGS = {
    "sweep_steps": 400,
    "sweep_every": 50,  # steps between two scores
    "sweep_samples": 500,
    "steps": 2200,
    "every": 100,
    "samples": 1000,
    # The diffusion model trains 3,022,825 parameters: U-Net, text encoder and autoencoder. The pair
    # has 1,037,954; as wide as this it has 3,075,930, and a step takes 2.95 times as long.
    "wide": {"block_out_channels": [56, 112, 232], "steps": 750, "every": 50},
    "seeds": [0, 1, 2],
    "repeated": [
        "R1",
        "no penalty",
    ],  # these arms of the sweep have all seeds, the others the first
    "shown": 10,
}
HINGE = {"loss": "hinge", "r1": 0.0, "spectral_norm": True}
SWEEP = {
    "R1": {},  # the defaults: γ = 1, both rates 1e-3, batches of 32, betas (0, 0.99)
    "R1, weaker": {"r1": 0.1},
    "R1, stronger": {"r1": 10.0},
    "R1, slower": {"learning_rates": [3e-4, 3e-4]},
    "R1, faster": {"learning_rates": [2e-3, 2e-3]},
    "R1, faster discriminator": {"learning_rates": [5e-4, 2e-3]},
    "R1, batches of 64": {"batch_size": 64},
    "hinge, spectral norm": HINGE,
    "no penalty": {"r1": 0.0},
    # Around the best of these nine:
    "R1, stronger, faster discriminator": {"r1": 10.0, "learning_rates": [5e-4, 2e-3]},
    "R1, weaker, faster discriminator": {"r1": 0.1, "learning_rates": [5e-4, 2e-3]},
    "R1, much faster discriminator": {"learning_rates": [5e-4, 4e-3]},
    "R1, slower, faster discriminator": {"learning_rates": [2.5e-4, 1e-3]},
    "R1, faster discriminator, batches of 64": {"learning_rates": [5e-4, 2e-3], "batch_size": 64},
}
BEST = [
    "R1, faster discriminator",
    "R1, faster discriminator, batches of 64",
]  # the two best of the sweep
WIDE = {
    BEST[0]: SWEEP[BEST[0]],
    "half its rates": {"learning_rates": [2.5e-4, 1e-3]},
}  # what the wide pair plays


class Judge:
    """The shipped examiner, the features of all real test digits, and what is asked for."""

    def __init__(self):
        self.examiner = (
            ImageClassifier.from_pretrained(shipped("mnist-examiner")).eval().requires_grad_(False)
        )
        self.reference, _ = extract(self.examiner, mnist("test").images)
        train = mnist("train")
        self.images, self.labels = pad(train.images, 32), train.labels

    def score(self, pictures: Tensor, labels: Tensor) -> dict[str, float]:
        """Of pictures (N, 1, 28, 28) or 32 x 32, as they would be saved."""
        saved = from_pixels(to_pixels(crop(pictures), 28))
        features, _ = extract(self.examiner, saved)
        everything = asdict(score(self.examiner, saved, labels, self.reference))
        everything |= mode_coverage(self.reference, features)._asdict() | {
            "variety": variety(features, labels)
        }
        return {key: round(value, 4) for key, value in everything.items()}


def variety(features: Tensor, labels: Tensor) -> float:
    """How far two pictures of one class are apart, on average: features (N, D), labels (N,)."""
    apart = []
    for label in labels.unique():
        own = features[labels == label]
        apart.append(torch.cdist(own, own).sum() / (len(own) * (len(own) - 1)))
    return torch.stack(apart).mean().item()


def as_bytes(pictures: Tensor) -> str:
    """The first pictures, 28 x 28, as hexadecimal bytes."""
    return to_pixels(crop(pictures[: SETTINGS["shown"]]), 28).tobytes().hex()


def milliseconds(draw, count: int, repeats: int = 3) -> float:
    """CPU time for each of `count` pictures, the fastest of a few repeats."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        draw(count)
        times.append(1000 * (time.process_time() - start) / count)
    return round(min(times), 2)


def new_game(judge: Judge, arm: str, seed: int, **size) -> GANTraining:
    options = {"spectral_norm": False, **(SWEEP | WIDE)[arm]}
    torch.manual_seed(seed)
    players = (
        GANGenerator(**size),
        GANDiscriminator(**size, spectral_norm=options.pop("spectral_norm")),
    )
    return GANTraining(*players, judge.images, judge.labels, seed, **options)


def play(judge: Judge, arm: str, seed: int, steps: int, every: int, samples: int, **size) -> dict:
    """Train, with a score every so many steps; the first digits of the best and of the last. size:
    of both networks."""
    game, asked, curve, pages = (
        new_game(judge, arm, seed, **size),
        torch.arange(samples) % 10,
        [],
        [],
    )
    for _ in range(steps // every):
        try:
            game.run(every, progress=False)
        except ValueError:  # a loss that is not finite: the game is over
            break
        pictures = sample_gan(game.averaged(), asked, torch.Generator().manual_seed(0))
        curve.append(
            {"step": game.step, "seconds": round(game.seconds, 1)} | judge.score(pictures, asked)
        )
        pages.append(as_bytes(pictures))
    heading = {
        "method": "GAN",
        "arm": arm,
        "seed": seed,
        "seconds": round(game.seconds, 1),
        "curve": curve,
    }
    if not curve:
        return heading
    best = min(range(len(curve)), key=lambda i: curve[i]["frechet"])
    drawing = game.averaged()

    def draw(count):
        sample_gan(drawing, torch.arange(count) % 10, torch.Generator().manual_seed(0))

    speed = {f"milliseconds_{count}": milliseconds(draw, count) for count in (1, 64)}
    parameters = {
        "drawing": size_of(drawing),
        "training": size_of(game.generator, game.discriminator),
    }
    return {
        **heading,
        **speed,
        "parameters": parameters,
        "best": best,
        "pages": {"best": pages[best], "final": pages[-1]},
    }


def size_of(*networks) -> int:
    return sum(p.numel() for network in networks for p in network.parameters())


def diffusion(judge: Judge, folder: Path, seed: int) -> list[dict]:
    """What the four minutes' model draws by itself, and what its autoencoder draws from a bell for
    each class."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder / f"seed_{seed}")
    prompts, asked = balanced_prompts("mnist", SETTINGS["samples"])

    def draw(count):
        generator = torch.Generator().manual_seed(0)
        return pipeline(prompts[:count], generator=generator, progress=False)

    def decode(count):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            return pipeline.vae.decode(
                sample_gaussians(mean, judge.labels[: len(mean)], asked[:count], generator)
            )

    mean, _ = encode_dataset(pipeline.vae, judge.images[:20_000], progress=False)
    parts = pipeline.unet, pipeline.text_encoder, pipeline.vae
    cells = []
    for method, make, networks in (
        ("diffusion", draw, parts[:2] + (pipeline.vae.decoder,)),
        ("VAE", decode, parts[2:]),
    ):
        pictures = make(SETTINGS["samples"])
        seconds = sum(
            value
            for stage, value in pipeline.card["seconds"].items()
            if method != "VAE" or stage != "denoiser"
        )
        speed = {f"milliseconds_{count}": milliseconds(make, count) for count in (1, 64)}
        cells.append(
            {"method": method, "seed": seed, "wall_seconds": seconds, **speed}
            | {"parameters": {"drawing": size_of(*networks)}, "page": as_bytes(pictures)}
            | judge.score(pictures, asked)
        )
    return cells


def all_cells() -> dict[str, tuple]:
    """Name of a cell -> what is measured in it."""
    first, *others = SETTINGS["seeds"]
    sweep = [(arm, first) for arm in SWEEP] + [
        (arm, seed) for arm in SETTINGS["repeated"] for seed in others
    ]
    cells = {f"sweep {arm} {seed}": ("sweep", arm, seed) for arm, seed in sweep}
    cells |= {
        f"long {arm} {seed}": ("long", arm, seed) for arm in BEST for seed in SETTINGS["seeds"]
    }
    cells |= {
        f"wide {arm} {seed}": ("wide", arm, seed) for arm in WIDE for seed in SETTINGS["seeds"]
    }
    return cells | {f"diffusion {seed}": ("diffusion", None, seed) for seed in SETTINGS["seeds"]}


def measure(judge: Judge, kind: str, arm: str, seed: int, folder: Path) -> dict:
    if kind == "diffusion":
        return {"cells": diffusion(judge, folder, seed)}
    prefix = "sweep_" if kind == "sweep" else ""
    plan = {name: SETTINGS[prefix + name] for name in ("steps", "every", "samples")}
    if kind == "long":  # as many pictures, and so about as long, in larger batches
        share = 32 / SWEEP[arm].get("batch_size", 32)
        plan |= {name: round(share * plan[name]) for name in ("steps", "every")}
    return play(judge, arm, seed, **plan | (SETTINGS["wide"] if kind == "wide" else {}))


def floor(judge: Judge, samples: int) -> dict:
    """As many real training digits, as many of each."""
    chosen = balanced_subset(judge.labels, samples)
    return judge.score(judge.images[chosen], judge.labels[chosen]) | {
        "page": as_bytes(judge.images[chosen])
    }


def table(result: dict) -> str:
    """A line for each training."""
    lines = [
        f"{'training':44}{'seconds':>9}{'right':>8}{'x floor':>9}{'recall':>8}{'best x floor':>14}"
    ]
    for name, cell in result["cells"].items():
        real = result["sweep_floor" if name.startswith("sweep") else "floor"]["frechet"]
        if "cells" in cell:
            for line in cell["cells"]:
                title, far = f"{line['method']} {line['seed']}", line["frechet"] / real
                lines.append(
                    f"{title:44}{line['wall_seconds']:9.0f}{line['accuracy']:8.1%}{far:9.2f}"
                    f"{line['recall']:8.2f}"
                )
        elif cell["curve"]:
            last, best = cell["curve"][-1], cell["curve"][cell["best"]]
            lines.append(
                f"{name:44}{cell['seconds']:9.0f}{last['accuracy']:8.1%}"
                f"{last['frechet'] / real:9.2f}{last['recall']:8.2f}"
                f"{best['frechet'] / real:14.2f}"
            )
        else:
            lines.append(f"{name:44}{cell['seconds']:9.0f}   the loss was not finite")
    return "\n".join(lines)


def main() -> None:
    known = all_cells()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "cells", nargs="*", metavar="CELL", help="some of the cells only (default: all)"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/gan"))
    parser.add_argument("--diffusion", type=Path, default=Path("runs/four_minutes"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if unknown := set(options.cells) - set(known):
        parser.error(f"expected cells of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    try:
        cells = Cells(options.runs, {**SETTINGS, "sweep": SWEEP, "wide_sweep": WIDE})
    except ValueError as error:
        parser.error(str(error))
    judge = Judge()
    for name in options.cells or known:
        cells.measure(name, lambda cell=known[name]: measure(judge, *cell, options.diffusion))
    if missing := cells.missing(known):
        print(f"{options.out} is not written: {len(missing)} cells to come, {missing[0]} first")
        return
    surroundings = {"hardware": hardware(torch.device("cpu")), "threads": torch.get_num_threads()}
    measured = dict(zip(known, cells.read(known), strict=True))
    result = {
        "settings": SETTINGS,
        "sweep": SWEEP,
        "best": BEST,
        "wide_sweep": WIDE,
        **surroundings,
        "floor": floor(judge, SETTINGS["samples"]),
        "sweep_floor": floor(judge, SETTINGS["sweep_samples"]),
        "cells": measured,
    }
    write_json(options.out, result)
    print(table(result))


if __name__ == "__main__":
    main()
