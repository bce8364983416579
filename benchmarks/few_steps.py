"""Four ways to few steps at equal training time, on the shipped digits' latents: average
velocities from nothing, begun from the teacher, these and then distribution matching, and the
consistency student.

    python benchmarks/few_steps.py [--minutes 1] [--seeds 3] [--samples 2000]

Each is drawn in 1, 2 and 4 steps and scored by the shipped examiner; the teacher, in its own ten
steps, stands beside them. Writes benchmarks/few_steps.json; a training that was finished before is
kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from minildm import StableDiffusionPipeline
from minildm.data import load_text_image
from minildm.evaluation import evaluate
from minildm.files import write_json
from minildm.models import UNet2DConditionModel
from minildm.training import Trainer, hardware
from minildm.variations import (
    MeanFlowLoss,
    MeanFlowUNet,
    OwnGuidance,
    mean_flow_batches,
    told_the_interval,
    two_stretches_target,
)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from make_lcm import RECIPE as LCM  # noqa: E402
from make_lcm import latent_batches, lesson  # noqa: E402
from make_one_step import RECIPE, lessons, of_average_velocities  # noqa: E402

RESULT = Path(__file__).with_suffix(".json")
STEPS = (1, 2, 4)
NAMES = (
    "MeanFlow from nothing",
    "MeanFlow from the teacher",
    "MeanFlow and matching",
    "consistency",
)
EMA = 0.1
STAGES = ("mean_flow", "distribution_matching")
ONE_STEP = {
    **RECIPE,
    "images": LCM["images"],  # as many for all
    **{stage: {**RECIPE[stage], "ema": EMA} for stage in STAGES},
}
FROM_NOTHING = {"guidance_scale": 1.75, "prompt_dropout": 0.1, "learning_rate": 2e-3}


def trained(
    name: str, seed: int, seconds: float
) -> tuple[StableDiffusionPipeline, dict[str, float]]:
    """The student of that name, and the steps and seconds of its training."""
    teacher = StableDiffusionPipeline.from_pretrained("mnist")
    if name == "consistency":
        pipeline, trainer = lesson(teacher, LCM, seed)
        return pipeline, train(trainer, seconds)
    if name == "MeanFlow from nothing":
        pipeline, trainer = from_nothing(teacher, seed)
        return pipeline, train(trainer, seconds)
    pipeline, stages = lessons(teacher, ONE_STEP, seed)
    if name == "MeanFlow from the teacher":
        return pipeline, train(stages["mean_flow"], seconds)
    first = train(stages["mean_flow"], seconds / 3)
    second = train(stages["distribution_matching"], 2 * seconds / 3)
    return pipeline, {key: first[key] + second[key] for key in first}


def from_nothing(
    teacher: StableDiffusionPipeline, seed: int
) -> tuple[StableDiffusionPipeline, Trainer]:
    """Average velocities from random weights, the pictures alone, and guidance by itself."""
    nothing = teacher.encode_prompt("", guidance=False)[0].detach()
    config = told_the_interval(teacher.unet).config
    torch.manual_seed(seed)
    unet = UNet2DConditionModel.from_config(config)
    network = MeanFlowUNet(unet)
    velocity = OwnGuidance(network, FROM_NOTHING["guidance_scale"], nothing)
    batches = latent_batches(
        teacher.vae,
        teacher.tokenizer,
        load_text_image("mnist", ONE_STEP["images"]),
        batch_size=ONE_STEP["batch_size"],
        seed=seed,
        prompt_dropout=FROM_NOTHING["prompt_dropout"],
    )
    trainer = Trainer(
        "MeanFlow from nothing",
        MeanFlowLoss(network, velocity, two_stretches_target),
        mean_flow_batches(batches, seed, teacher.text_encoder),
        FROM_NOTHING["learning_rate"],
        ema=EMA,
    )
    return of_average_velocities(teacher, unet, FROM_NOTHING, seed), trainer


def train(trainer: Trainer, seconds: float) -> dict[str, float]:
    """Train for about so long; what it came to."""
    steps = trainer.steps_within(seconds, torch.device("cpu"))
    trainer.train(steps)
    return {"steps": steps, "seconds": round(trainer.seconds, 1)}


def scores(pipeline: StableDiffusionPipeline, samples: int, steps: int) -> dict[str, float]:
    """Accuracy, distance over the floor and recall of drawings in so many steps."""
    result = evaluate(pipeline, samples, num_inference_steps=steps, progress=False)
    return {
        "accuracy": result.scores.accuracy,
        "distance": result.scores.frechet / result.floor.frechet,
        "recall": result.scores.recall,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=2000)
    options = parser.parse_args()
    asked = {"minutes": options.minutes, "samples": options.samples}
    table = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if table.get("asked") != asked:
        teacher = StableDiffusionPipeline.from_pretrained("mnist")
        table = {
            "asked": asked,
            "hardware": hardware(torch.device("cpu")),
            "threads": torch.get_num_threads(),
            "teacher": scores(teacher, options.samples, 10),
            "rows": [],
        }
    for seed in range(options.seeds):
        for name in NAMES:
            if any((row["name"], row["seed"]) == (name, seed) for row in table["rows"]):
                continue
            pipeline, took = trained(name, seed, 60 * options.minutes)
            by_steps = {str(steps): scores(pipeline, options.samples, steps) for steps in STEPS}
            table["rows"].append({"name": name, "seed": seed, **took, "scores": by_steps})
            write_json(RESULT, table)
            print_row(table["rows"][-1])


def print_row(row: dict) -> None:
    said = "   ".join(
        f"{steps}: {100 * each['accuracy']:.1f} % {each['distance']:.2f} x"
        for steps, each in row["scores"].items()
    )
    print(f"{row['name']:26} seed {row['seed']}  {row['steps']} steps, {row['seconds']} s   {said}")


if __name__ == "__main__":
    main()
