"""Make the shipped student of `mnist` again that draws in one step:
`python scripts/make_one_step.py`, part of `make weights`.

In two stages: average velocities along the teacher's guided path (MeanFlow), by which one step
shows the right digit, if a blurred one; then distribution matching, by which it is as crisp and as
varied as the teacher's.
"""

import copy
from pathlib import Path

import torch
from make_lcm import latent_batches

from minildm import DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from minildm.evaluation import evaluate
from minildm.files import write_json
from minildm.pipelines import WEIGHTS
from minildm.training import Trainer, hardware
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
CARD = {
    "guidance_scale": 1.0,  # no second pass: it is in the weights
    "num_inference_steps": 1,
    "prediction_type": "flow_prediction",
    "timestep_cond": "interval",  # how far the step goes is told beside the time
}


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
    nothing = teacher.encode_prompt("", guidance=False)[0].detach()
    curved = teacher.scheduler.config
    guided = GuidedTeacher(teacher.unet, recipe["guidance_scale"], nothing, recipe["guided_below"])
    average = MeanFlowUNet(told_the_interval(teacher.unet).requires_grad_(True))
    batches = latent_batches(teacher, recipe, 1000, seed)
    mean_flow = Trainer(
        "mean flow",
        MeanFlowLoss(
            average,
            StraightVelocity(guided, DPMSolverMultistepScheduler.from_config(curved)),
            two_stretches_target,
        ),
        mean_flow_batches(batches, seed, teacher.text_encoder),
        learning_rate=recipe["mean_flow"]["learning_rate"],
        ema=recipe["mean_flow"]["ema"],
    )
    matching = Trainer(
        "distribution matching",
        DistributionMatchingLoss(
            OneStep(average),
            copy.deepcopy(teacher.unet).requires_grad_(True),
            guided,
            DDPMScheduler.from_config(curved),
            recipe["distribution_matching"]["student_every"],
        ),
        matching_batches(batches, seed, teacher.text_encoder),
        learning_rate=recipe["distribution_matching"]["learning_rate"],
        ema=recipe["distribution_matching"]["ema"],
    )
    for stage, trainer in (("mean_flow", mean_flow), ("distribution_matching", matching)):
        (runs / stage).mkdir(parents=True, exist_ok=True)
        trainer.train(recipe[stage]["steps"], runs / stage)
    seconds = {
        "mean_flow": round(mean_flow.seconds, 1),
        "distribution_matching": round(matching.seconds, 1),
    }
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "solver_order": 1}
    pipeline = StableDiffusionPipeline(
        vae=teacher.vae,
        text_encoder=teacher.text_encoder,
        tokenizer=teacher.tokenizer,
        unet=average.unet,
        scheduler=DPMSolverMultistepScheduler(**flow, steps_offset=1),
        card={key: teacher.card[key] for key in ("dataset", "image_size")}
        | CARD
        | {
            "recipe": recipe,
            "seed": seed,
            "hardware": hardware(torch.device("cpu")),
            "threads": torch.get_num_threads(),
        },
    )
    return pipeline, seconds


if __name__ == "__main__":
    main()
