"""Quality against the number of network evaluations and against time, for every sampler and
spacing. Chapter 05.

    python benchmarks/samplers.py [--samples 500] [--seed 0] [--out benchmarks/samplers.csv]

A row of the table is a cell of the experiment: a sampler, a spacing, a number of steps. It is
appended as soon as it is measured; those that the file has already are passed over, so that an
interrupted run goes on where it was. All cells share the prompts and the starting noise. Time is
CPU time of one thread, which does not grow when others work.
"""

import argparse
import csv
import sys
import time
from pathlib import Path

import torch

from minildm import StableDiffusionPipeline
from minildm.data import LOADERS, from_pixels, to_pixels
from minildm.evaluation import balanced_prompts, balanced_subset, frechet_distance, kernel_distance
from minildm.models import ImageClassifier, extract
from minildm.pipelines import shipped

COLUMNS = (
    "sampler",
    "spacing",
    "steps",
    "evaluations",
    "samples",
    "seed",
    "ms",
    "accuracy",
    "frechet",
    "kernel",
)
GUIDANCE = 1.75  # in all steps
KEY = ("sampler", "spacing", "evaluations", "samples", "seed")


def cells():
    """(sampler, spacing, network evaluations at most), the cheap ones first."""
    for evaluations in (4, 6, 10, 20, 40):
        for sampler, spacing in (
            ("ddim", "trailing"),
            ("dpmpp_2m", "trailing"),
            ("dpmpp_2m", "leading"),
            ("ddpm", "trailing"),
            ("heun", "leading"),
        ):
            yield sampler, spacing, evaluations
        if evaluations <= 10:  # where the spacing matters most
            for sampler, spacing in (
                ("heun", "trailing"),
                ("euler", "leading"),
                ("euler", "linspace"),
            ):
                yield sampler, spacing, evaluations


def steps_for(scheduler, evaluations: int) -> int:
    """The most steps that ask the network `evaluations` times or less; Heun asks twice a step, but
    once at the end."""
    for steps in range(evaluations, 0, -1):
        scheduler.set_timesteps(steps)
        if len(scheduler.timesteps) <= evaluations:
            return steps
    raise ValueError(
        f"expected a sampler that can do with {evaluations} evaluations, "
        f"got {type(scheduler).__name__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--samples", type=int, default=500, help="pictures for each cell, a multiple of ten"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)

    pipeline = StableDiffusionPipeline.from_pretrained("mnist")
    examiner = ImageClassifier.from_pretrained(shipped("mnist-examiner"))
    train, test = LOADERS["mnist"]("train"), LOADERS["mnist"]("test")
    prompts, labels = balanced_prompts("mnist", options.samples)
    reference, _ = extract(examiner, test.images)
    context = pipeline.encode_prompt(prompts)
    noise = pipeline.starting_noise(
        options.samples, generator=torch.Generator().manual_seed(options.seed)
    )

    def scores(images, labels):
        features, predicted = extract(examiner, images)
        accuracy = (predicted == labels).float().mean().item()
        return {
            "accuracy": f"{accuracy:.4f}",
            "frechet": f"{frechet_distance(features, reference):.3f}",
            "kernel": f"{kernel_distance(features, reference):.3f}",
        }

    @torch.no_grad()
    def draw(sampler, spacing, evaluations):
        pipeline.use_sampler(sampler)
        config = {**pipeline.scheduler.config, "timestep_spacing": spacing}
        pipeline.scheduler = type(pipeline.scheduler).from_config(config)
        steps = steps_for(pipeline.scheduler, evaluations)
        generator = torch.Generator().manual_seed(1000 + options.seed)
        start = time.process_time()
        batches = zip(noise.split(250), context.split(250, dim=1), strict=True)
        images = [
            pipeline.decode(pipeline.denoise(*batch, steps, GUIDANCE, generator))
            for batch in batches
        ]
        ms = 1000 * (time.process_time() - start) / options.samples
        images = from_pixels(to_pixels(torch.cat(images), train.images.shape[-1]))
        return {"steps": steps, "ms": f"{ms:.1f}", **scores(images, labels)}

    def real():
        chosen = balanced_subset(train.labels, options.samples)
        return {"steps": 0, "ms": 0, **scores(train.images[chosen], train.labels[chosen])}

    written = []
    if options.out.exists():
        with open(options.out, newline="") as file:
            written = [{key: row[key] for key in KEY} for row in csv.DictReader(file)]
    else:
        options.out.write_text(",".join(COLUMNS) + "\n")
    for cell in [("real", "", 0), *cells()]:
        name = {
            key: str(value)
            for key, value in zip(KEY, (*cell, options.samples, options.seed), strict=True)
        }
        if name in written:
            continue
        row = {**name, **(real() if cell[0] == "real" else draw(*cell))}
        with open(options.out, "a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
        csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n").writerow(row)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
