"""What is lost without the skip connections, without the time, or with max-pooling? One small
U-Net, trained on 16 x 16 digits with parts of it taken away, three seeds each. Chapter 04 does it
small, with one seed.

    python benchmarks/skip_ablation.py [--seeds 0 1 2] [--runs runs/skip_ablation] [--out
    benchmarks/skip_ablation.json]

A cell is one variant with one seed. Finished cells are kept in --runs, so that an interrupted run
goes on where it was, and several may share the work, with some of the seeds each; --out is written
by the one that finds all of them there. About twenty minutes of one core.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

import torch
from cells import Cells

from minildm import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel, mnist
from minildm.data import enlarge, shrink
from minildm.evaluation import (
    cut_skips,
    error_by_timestep,
    forget_time,
    frechet_distance,
    pool_instead,
    sample_trajectory,
)
from minildm.files import write_json
from minildm.models import ImageClassifier, extract
from minildm.pipelines import shipped
from minildm.training import DenoisingLoss, Trainer, pixel_batches

VARIANTS = {
    "intact": lambda unet: unet,
    "no skips": lambda unet: cut_skips(unet, (16, 8, 4)),
    "no skips at 16": lambda unet: cut_skips(unet, (16,)),
    "no skips at 8": lambda unet: cut_skips(unet, (8,)),
    "no skips at 4": lambda unet: cut_skips(unet, (4,)),
    "no time": forget_time,
    "max-pooling": pool_instead,
}
SETTINGS = {
    "unet": {
        "sample_size": 16,
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": [8, 16, 32],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 8,
        "down_block_types": ["DownBlock2D"] * 3,
        "up_block_types": ["UpBlock2D"] * 3,
    },
    "scheduler": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
    "steps": 600,
    "batch_size": 64,
    "learning_rate": 2e-3,
    "ema": 0.05,
    "seeds": [0, 1, 2],
    "variants": list(VARIANTS),
    "timesteps": list(range(50, 1000, 100)),
    "test_images": 500,
    "samples": 500,
    "shown": 8,
    "num_inference_steps": 15,
}


def measure(
    variant: str, seed: int, digits: torch.Tensor, test: torch.Tensor, examiner: ImageClassifier
) -> dict:
    """Train one network and score it: plain numbers, and its first pictures as hexadecimal
    bytes."""
    torch.manual_seed(seed)  # the same first weights for every variant
    unet = VARIANTS[variant](UNet2DModel(**SETTINGS["unet"]))
    scheduler = DDPMScheduler(**SETTINGS["scheduler"])
    start = time.process_time()
    batches = pixel_batches(digits, SETTINGS["batch_size"], seed)
    trainer = Trainer(
        variant,
        DenoisingLoss(unet, scheduler),
        batches,
        learning_rate=SETTINGS["learning_rate"],
        ema=SETTINGS["ema"],
    )
    trainer.train(SETTINGS["steps"], progress=False)
    seconds = time.process_time() - start
    errors = error_by_timestep(
        unet, scheduler, test[: SETTINGS["test_images"]], SETTINGS["timesteps"]
    )

    sampler = DPMSolverMultistepScheduler(**SETTINGS["scheduler"], timestep_spacing="trailing")
    noise = torch.randn(
        SETTINGS["samples"], 1, 16, 16, generator=torch.Generator().manual_seed(seed)
    )
    xts, _ = sample_trajectory(unet, sampler, noise, SETTINGS["num_inference_steps"])
    pictures = xts[-1].clamp(-1, 1)
    features, classes = extract(examiner, enlarge(pictures))
    confidence = examiner.classify(features.relu()).softmax(1).amax(1)
    shown = ((pictures[: SETTINGS["shown"]] + 1) * 127.5).round().byte()
    return {
        "variant": variant,
        "seed": seed,
        "parameters": sum(p.numel() for p in unet.parameters()),
        "errors": [round(error, 5) for error in errors.tolist()],
        "frechet": round(frechet_distance(features, reference(examiner, test)), 3),
        "confident": round((confidence > 0.9).float().mean().item(), 4),
        "per_class": classes.bincount(minlength=10).tolist(),
        "seconds": round(seconds, 1),
        "pictures": bytes(shown.flatten().tolist()).hex(),
    }


def reference(examiner: ImageClassifier, test: torch.Tensor) -> torch.Tensor:
    """The examiner's features of all real test digits, as coarse as the drawn ones."""
    return extract(examiner, enlarge(test))[0]


def table(cells: list[dict]) -> str:
    """Mean over the seeds ± standard deviation."""
    lines = [f"{'variant':16}{'error':>18}{'Fréchet distance':>20}{'confident':>16}{'CPU s':>8}"]
    for variant in VARIANTS:
        rows = [cell for cell in cells if cell["variant"] == variant]
        columns = ([statistics.fmean(r["errors"]) for r in rows], [r["frechet"] for r in rows])
        error, frechet = (f"{statistics.fmean(c):.4f} ± {statistics.stdev(c):.4f}" for c in columns)
        confident = f"{statistics.fmean(r['confident'] for r in rows):.1%}"
        seconds = statistics.fmean(r["seconds"] for r in rows)
        lines.append(f"{variant:16}{error:>18}{frechet:>20}{confident:>16}{seconds:8.0f}")
    return "\n".join(lines)


@torch.no_grad()
def floor(digits: torch.Tensor, test: torch.Tensor, examiner: ImageClassifier) -> dict:
    """What as many real training digits score."""
    features = extract(examiner, enlarge(digits[: SETTINGS["samples"]]))[0]
    confidence = examiner.classify(features.relu()).softmax(1).amax(1)
    distance = frechet_distance(features, reference(examiner, test))
    return {
        "frechet": round(distance, 3),
        "confident": round((confidence > 0.9).float().mean().item(), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=SETTINGS["seeds"], choices=SETTINGS["seeds"]
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/skip_ablation"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()

    try:
        cells = Cells(options.runs, SETTINGS)
    except ValueError as error:
        parser.error(str(error))
    digits, test = (shrink(mnist(split).images) for split in ("train", "test"))
    examiner = (
        ImageClassifier.from_pretrained(shipped("mnist-examiner")).eval().requires_grad_(False)
    )

    for seed, variant in itertools.product(options.seeds, VARIANTS):
        cells.measure(
            f"{variant} {seed}", lambda v=variant, s=seed: measure(v, s, digits, test, examiner)
        )

    names = [
        f"{variant} {seed}" for seed, variant in itertools.product(SETTINGS["seeds"], VARIANTS)
    ]
    if missing := cells.missing(names):
        print(f"{options.out} is not written: {len(missing)} cells to come, {missing[0]} first")
        return
    measured = cells.read(names)
    write_json(
        options.out,
        {"settings": SETTINGS, "floor": floor(digits, test, examiner), "cells": measured},
    )
    print(table(measured))


if __name__ == "__main__":
    main()
