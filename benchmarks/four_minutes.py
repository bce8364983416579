"""What `minildm train --preset mnist --minutes 4` reaches: three trainings that differ in nothing
but the seed.

    python benchmarks/four_minutes.py [--minutes 4] [--runs runs/four_minutes]

On a machine that does nothing else: the time is what is shared out. Chapter 12 shows the table.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from cells import Cells

from minildm.evaluation import evaluate
from minildm.files import write_json
from minildm.training import hardware, train

SETTINGS = {
    "preset": "mnist",
    "minutes": 4.0,
    "seeds": [0, 1, 2],
    "guidance": [1.75, 2.0],
    "samples": 1000,
}


def measure(folder: Path, seed: int, minutes: float) -> dict:
    """Train (or open what is trained) and score, at each guidance, `samples` drawings."""
    pipeline = train(SETTINGS["preset"], folder, minutes, seed=seed, resume=True, device="cpu")
    results = [
        evaluate(pipeline, SETTINGS["samples"], guidance_scale=g) for g in SETTINGS["guidance"]
    ]
    scores = [{"guidance": r.sampling.guidance_scale, **asdict(r.scores)} for r in results]
    return {
        "seed": seed,
        "steps": pipeline.card["steps"],
        "scores": scores,
        "floor": asdict(results[0].floor),
    }


def table(cells: list[dict]) -> str:
    lines = [f"{'seed':>4}{'guidance':>10}{'accuracy':>10}{'Fréchet':>9}{'x floor':>9}"]
    for cell in cells:
        for s in cell["scores"]:
            ratio = s["frechet"] / cell["floor"]["frechet"]
            lines.append(
                f"{cell['seed']:4}{s['guidance']:10g}{s['accuracy']:10.1%}{s['frechet']:9.2f}{ratio:9.2f}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=SETTINGS["minutes"])
    parser.add_argument("--runs", type=Path, default=Path("runs/four_minutes"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    settings = {**SETTINGS, "minutes": options.minutes}
    try:
        cells = Cells(options.runs, settings)
    except ValueError as error:
        parser.error(str(error))
    names = [f"seed {seed}" for seed in settings["seeds"]]
    for name, seed in zip(names, settings["seeds"], strict=True):
        cells.measure(
            name,
            lambda n=name, s=seed: measure(options.runs / n.replace(" ", "_"), s, options.minutes),
        )
    measured = cells.read(names)
    surroundings = {
        "hardware": hardware(torch.device("cpu")),
        "command": "python benchmarks/four_minutes.py",
    }
    write_json(options.out, {"settings": settings, **surroundings, "cells": measured})
    print(table(measured))


if __name__ == "__main__":
    main()
