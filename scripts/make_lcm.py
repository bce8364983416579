"""Make the shipped student of `mnist` again, which draws in one to four steps and without a
guidance pass: `python scripts/make_lcm.py`, part of `make weights`."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch

from minildm import LCMScheduler, StableDiffusionPipeline
from minildm.data import TextImageDataset, load_text_image
from minildm.evaluation import evaluate
from minildm.files import write_json
from minildm.models import AutoencoderKL, UNet2DConditionModel
from minildm.pipelines import WEIGHTS
from minildm.schedulers import Scheduler
from minildm.text import CLIPTokenizer
from minildm.training import Batch, Trainer, denoiser_batches, encode_dataset, hardware
from minildm.variations import ConsistencyLoss, DDIMSolver, consistency_batches

NAME = "mnist-lcm"
RECIPE = {
    "teacher": "mnist",
    "guidance_scale": 1.25,  # distilled into the student
    "original_inference_steps": 20,
    "decay": 0.95,
    "huber": 0.01,
    "images": 20_000,
    "steps": 600,
    "batch_size": 64,
    "learning_rate": 3e-4,
    "ema": 0.1,
}
SAMPLES, SEED = 10_000, 0
STEPS = 4  # the card's default


def main(runs: Path = WEIGHTS.parents[1] / "runs" / "weights", out: Path = WEIGHTS / NAME) -> None:
    """Distillation, half precision, score."""
    pipeline, trainer = distil(RECIPE, runs / NAME)
    pipeline.save_pretrained(out, torch.float16)
    pipeline = StableDiffusionPipeline.from_pretrained(out)  # scored as shipped, in half precision
    scored = evaluate(pipeline, SAMPLES, SEED)
    print(scored)
    seconds = {"seconds": round(trainer.seconds, 1)}
    write_json(out / "minildm.json", pipeline.card | seconds | {"evaluation": scored.as_dict()})


def distil(
    recipe: dict, runs: Path | None = None, seed: int = SEED
) -> tuple[StableDiffusionPipeline, Trainer]:
    """The student in its teacher's pipeline, and the trainer that made it."""
    teacher = StableDiffusionPipeline.from_pretrained(recipe["teacher"])
    pipeline, trainer = lesson(teacher, recipe, seed)
    if runs is not None:
        runs.mkdir(parents=True, exist_ok=True)
    trainer.train(recipe["steps"], runs)
    return pipeline, trainer


def lesson(
    teacher: StableDiffusionPipeline, recipe: dict, seed: int
) -> tuple[StableDiffusionPipeline, Trainer]:
    """The student in its teacher's pipeline before it has learned, and what trains it."""
    steps = recipe["original_inference_steps"]
    scheduler = LCMScheduler.from_config(teacher.scheduler.config, original_inference_steps=steps)
    nothing = teacher.encode_prompt("", guidance=False)[0].detach()
    student = copy.deepcopy(teacher.unet).requires_grad_(True)
    solver = DDIMSolver(teacher.unet, scheduler, recipe["guidance_scale"], nothing)
    loss = ConsistencyLoss(student, solver, scheduler, decay=recipe["decay"], c=recipe["huber"])
    batches = consistency_batches(
        latent_batches(
            teacher.vae,
            teacher.tokenizer,
            load_text_image("mnist", recipe["images"]),
            batch_size=recipe["batch_size"],
            seed=seed,
            num_train_timesteps=steps,
        ),
        scheduler,
        teacher.text_encoder,
    )
    trainer = Trainer(NAME, loss, batches, learning_rate=recipe["learning_rate"], ema=recipe["ema"])
    return in_place_of(teacher, student, scheduler, recipe, seed, STEPS), trainer


def in_place_of(
    teacher: StableDiffusionPipeline,
    student: UNet2DConditionModel,
    scheduler: Scheduler,
    recipe: dict,
    seed: int,
    num_inference_steps: int,
    **card: object,
) -> StableDiffusionPipeline:
    """The teacher's pipeline with a student in its place, and the student's card."""
    made = {key: teacher.card[key] for key in ("dataset", "image_size")} | {
        "guidance_scale": 1.0,  # no second pass: it is in the weights
        "num_inference_steps": num_inference_steps,
        "prediction_type": scheduler.prediction_type,
        **card,
        "recipe": recipe,
        "seed": seed,
        "hardware": hardware(torch.device("cpu")),
        "threads": torch.get_num_threads(),
    }
    return StableDiffusionPipeline(
        vae=teacher.vae,
        text_encoder=teacher.text_encoder,
        tokenizer=teacher.tokenizer,
        unet=student,
        scheduler=scheduler,
        card=made,
    )


def latent_batches(
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    data: TextImageDataset,
    *,
    batch_size: int,
    seed: int,
    prompt_dropout: float = 0.0,
    num_train_timesteps: int = 1000,
) -> Callable[[int], Batch]:
    """step -> latents of the pictures, noise, which of the timesteps, input_ids."""
    scale = vae.config.scaling_factor
    mean, std = encode_dataset(vae, data.images)
    return denoiser_batches(
        scale * mean,
        scale * std,
        caption_of=data.caption_of,
        caption_ids=[tokenizer(texts) for texts in data.captions],
        empty_ids=tokenizer("")[0],
        prompt_dropout=prompt_dropout,
        batch_size=batch_size,
        seed=seed,
        num_train_timesteps=num_train_timesteps,
    )


if __name__ == "__main__":
    main()
