"""Four ways to few steps at equal training time, on the shipped digits' latents: average
velocities from nothing, begun from the teacher, these and then distribution matching, and the
consistency student.

    python benchmarks/few_steps.py [--minutes 1] [--seeds 3] [--samples 2000]

Each is drawn in 1, 2 and 4 steps and scored by the shipped examiner; the teacher, in its own ten
steps, stands beside them. Writes benchmarks/few_steps.json, which chapter 15 shows; a training that
was finished before is kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path

import torch
from torch import nn

from minildm import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    LCMScheduler,
    StableDiffusionPipeline,
)
from minildm.evaluation import evaluate
from minildm.files import write_json
from minildm.models import UNet2DConditionModel
from minildm.training import Trainer, hardware
from minildm.variations import (
    ConsistencyLoss,
    DDIMSolver,
    DistributionMatchingLoss,
    GuidedTeacher,
    MeanFlowLoss,
    MeanFlowUNet,
    OneStep,
    OwnGuidance,
    StraightVelocity,
    consistency_batches,
    matching_batches,
    mean_flow_batches,
    told_the_interval,
    two_stretches_target,
)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from make_lcm import RECIPE as LCM  # noqa: E402
from make_lcm import latent_batches  # noqa: E402
from make_one_step import CARD, RECIPE  # noqa: E402

RESULT = Path(__file__).with_suffix(".json")
STEPS = (1, 2, 4)
NAMES = (
    "MeanFlow from nothing",
    "MeanFlow from the teacher",
    "MeanFlow and matching",
    "consistency",
)
IMAGES = {"images": LCM["images"]}  # as many for all
OWN_GUIDANCE = 1.75  # what guidance by the network itself is distilled at


def mean_flow(kind: str, teacher: StableDiffusionPipeline, seed: int, seconds: float):
    """Average velocities: "from nothing" from random weights and the pictures alone, or "from the
    teacher" from its weights and along its guided path; "and matching": for a third of the time,
    then distribution matching."""
    nothing = teacher.encode_prompt("", guidance=False)[0].detach()
    unet = told_the_interval(teacher.unet)
    if kind == "from nothing":
        torch.manual_seed(seed)
        unet = UNet2DConditionModel.from_config(unet.config)
    network = MeanFlowUNet(unet.requires_grad_(True))
    if kind == "from nothing":
        velocity: nn.Module = OwnGuidance(network, OWN_GUIDANCE, nothing)
        recipe = {**RECIPE, **IMAGES, "prompt_dropout": 0.1}
        learning_rate = 2e-3
    else:
        learning_rate = RECIPE["mean_flow"]["learning_rate"]
        guided = GuidedTeacher(
            teacher.unet, RECIPE["guidance_scale"], nothing, RECIPE["guided_below"]
        )
        curved = DPMSolverMultistepScheduler.from_config(teacher.scheduler.config)
        velocity, recipe = StraightVelocity(guided, curved), {**RECIPE, **IMAGES}
    loss = MeanFlowLoss(network, velocity, two_stretches_target)
    batches = mean_flow_batches(
        latent_batches(teacher, recipe, 1000, seed), seed, teacher.text_encoder
    )
    share = 1 / 3 if kind == "and matching" else 1
    took = train(
        Trainer(f"MeanFlow {kind}", loss, batches, learning_rate, ema=0.1), share * seconds
    )
    if kind == "and matching":
        settings = RECIPE["distribution_matching"]
        matching = DistributionMatchingLoss(
            OneStep(network),
            copy.deepcopy(teacher.unet).requires_grad_(True),
            guided,
            DDPMScheduler.from_config(teacher.scheduler.config),
            settings["student_every"],
        )
        batches = matching_batches(
            latent_batches(teacher, recipe, 1000, seed), seed, teacher.text_encoder
        )
        trainer = Trainer("matching", matching, batches, settings["learning_rate"], ema=0.1)
        second = train(trainer, (1 - share) * seconds)
        took = {key: took[key] + second[key] for key in took}
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "solver_order": 1}
    scheduler = DPMSolverMultistepScheduler(**flow, steps_offset=1)
    card = {key: teacher.card[key] for key in ("dataset", "image_size")} | CARD
    return StableDiffusionPipeline.from_pipe(teacher, unet=unet, scheduler=scheduler), card, took


def consistency(teacher: StableDiffusionPipeline, seed: int, seconds: float):
    """The consistency student, by the recipe of the shipped one."""
    steps = LCM["original_inference_steps"]
    scheduler = LCMScheduler.from_config(teacher.scheduler.config, original_inference_steps=steps)
    nothing = teacher.encode_prompt("", guidance=False)[0].detach()
    student = copy.deepcopy(teacher.unet).requires_grad_(True)
    solver = DDIMSolver(teacher.unet, scheduler, LCM["guidance_scale"], nothing)
    loss = ConsistencyLoss(student, solver, scheduler, decay=LCM["decay"], c=LCM["huber"])
    batches = consistency_batches(
        latent_batches(teacher, LCM, steps, seed), scheduler, teacher.text_encoder
    )
    took = train(
        Trainer("consistency", loss, batches, LCM["learning_rate"], ema=LCM["ema"]), seconds
    )
    card = {key: teacher.card[key] for key in ("dataset", "image_size")} | {"guidance_scale": 1.0}
    return StableDiffusionPipeline.from_pipe(teacher, unet=student, scheduler=scheduler), card, took


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
            teacher = StableDiffusionPipeline.from_pretrained("mnist")
            seconds = 60 * options.minutes
            if name == "consistency":
                pipeline, card, took = consistency(teacher, seed, seconds)
            else:
                kind = name.removeprefix("MeanFlow ")
                pipeline, card, took = mean_flow(kind, teacher, seed, seconds)
            pipeline.card = card
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
