"""Make the shipped student of `mnist` again that draws in one step:
`python scripts/make_one_step.py`, part of `make weights`.

In two stages: average velocities along the teacher's guided path (MeanFlow), by which one step
shows the right digit, if a blurred one; then distribution matching, by which it is as crisp and as
varied as the teacher's.
"""

import copy
from pathlib import Path

import torch
from make_lcm import in_place_of, latent_batches

from minildm import DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from minildm.data import load_text_image
from minildm.evaluation import evaluate
from minildm.files import write_json
from minildm.models import UNet2DConditionModel
from minildm.pipelines import WEIGHTS
from minildm.training import Trainer
from minildm.variations import (
    DistributionMatchingLoss,
    GuidedTeacher,
    MeanFlowLoss,
    MeanFlowUNet,
    OneStep,
    StraightVelocity,
    matching_batches,
    mean_flow_batches,
    told_the_interval,
    two_stretches_target,
)

NAME = "mnist-one-step"
RECIPE = {
    "teacher": "mnist",
    "guidance_scale": 1.6,  # distilled into the student, which makes it stronger by itself
    "guided_below": 750,  # the timestep at which the teacher's guidance begins
    "images": 60_000,
    "batch_size": 64,
    "mean_flow": {"steps": 300, "learning_rate": 3e-4, "ema": 0.2},
    "distribution_matching": {
        "steps": 2400,
        "student_every": 2,
        "learning_rate": 2e-4,
        "ema": 0.1,
    },
}
SAMPLES, SEED = 10_000, 0


def main(runs: Path = WEIGHTS.parents[1] / "runs" / "weights", out: Path = WEIGHTS / NAME) -> None:
    """Distillation, half precision, score."""
    pipeline, seconds = distil(RECIPE, runs / NAME)
    pipeline.save_pretrained(out, torch.float16)
    pipeline = StableDiffusionPipeline.from_pretrained(out)  # scored as shipped, in half precision
    scored = evaluate(pipeline, SAMPLES, SEED)
    print(scored)
    write_json(
        out / "minildm.json",
        pipeline.card | {"seconds": seconds, "evaluation": scored.as_dict()},
    )


def distil(
    recipe: dict, runs: Path, seed: int = SEED
) -> tuple[StableDiffusionPipeline, dict[str, float]]:
    """The student in its teacher's pipeline, and how long each stage took."""
    teacher = StableDiffusionPipeline.from_pretrained(recipe["teacher"])
    pipeline, stages = lessons(teacher, recipe, seed)
    for stage, trainer in stages.items():
        (runs / stage).mkdir(parents=True, exist_ok=True)
        trainer.train(recipe[stage]["steps"], runs / stage)
    return pipeline, {stage: round(trainer.seconds, 1) for stage, trainer in stages.items()}


def lessons(
    teacher: StableDiffusionPipeline, recipe: dict, seed: int
) -> tuple[StableDiffusionPipeline, dict[str, Trainer]]:
    """The student in its teacher's pipeline before it has learned, and what trains it, stage after
    stage."""
    nothing = teacher.encode_prompt("", guidance=False)[0].detach()
    curved = teacher.scheduler.config
    guided = GuidedTeacher(teacher.unet, recipe["guidance_scale"], nothing, recipe["guided_below"])
    average = MeanFlowUNet(told_the_interval(teacher.unet).requires_grad_(True))
    batches = latent_batches(
        teacher.vae,
        teacher.tokenizer,
        load_text_image("mnist", recipe["images"]),
        batch_size=recipe["batch_size"],
        seed=seed,
    )
    mean_flow = MeanFlowLoss(
        average,
        StraightVelocity(guided, DPMSolverMultistepScheduler.from_config(curved)),
        two_stretches_target,
    )
    matching = DistributionMatchingLoss(
        OneStep(average),
        copy.deepcopy(teacher.unet).requires_grad_(True),
        guided,
        DDPMScheduler.from_config(curved),
        recipe["distribution_matching"]["student_every"],
    )
    stages = {
        "mean_flow": (mean_flow, mean_flow_batches(batches, seed, teacher.text_encoder)),
        "distribution_matching": (matching, matching_batches(batches, seed, teacher.text_encoder)),
    }
    trainers = {
        stage: Trainer(
            stage.replace("_", " "),
            loss,
            batch,
            learning_rate=recipe[stage]["learning_rate"],
            ema=recipe[stage]["ema"],
        )
        for stage, (loss, batch) in stages.items()
    }
    return of_average_velocities(teacher, average.unet, recipe, seed), trainers


def of_average_velocities(
    teacher: StableDiffusionPipeline, student: UNet2DConditionModel, recipe: dict, seed: int
) -> StableDiffusionPipeline:
    """The teacher's pipeline with a student in its place that is told how far a step goes."""
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "solver_order": 1}
    scheduler = DPMSolverMultistepScheduler(**flow, steps_offset=1)
    return in_place_of(teacher, student, scheduler, recipe, seed, 1, timestep_cond="interval")


if __name__ == "__main__":
    main()
