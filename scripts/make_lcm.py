"""Make the shipped student of `mnist` again, which draws in one to four steps and without a
guidance pass: `python scripts/make_lcm.py`, part of `make weights`."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch

from minildm import LCMScheduler, StableDiffusionPipeline
from minildm.data import load_text_image
from minildm.evaluation import evaluate
from minildm.files import write_json
from minildm.pipelines import WEIGHTS
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
    steps = recipe["original_inference_steps"]
    scheduler = LCMScheduler.from_config(teacher.scheduler.config, original_inference_steps=steps)
    nothing = teacher.encode_prompt("", guidance=False)[0].detach()
    student = copy.deepcopy(teacher.unet).requires_grad_(True)
    solver = DDIMSolver(teacher.unet, scheduler, recipe["guidance_scale"], nothing)
    loss = ConsistencyLoss(student, solver, scheduler, decay=recipe["decay"], c=recipe["huber"])
    batches = consistency_batches(
        latent_batches(teacher, recipe, steps, seed), scheduler, teacher.text_encoder
    )
    trainer = Trainer(NAME, loss, batches, learning_rate=recipe["learning_rate"], ema=recipe["ema"])
    if runs is not None:
        runs.mkdir(parents=True, exist_ok=True)
    trainer.train(recipe["steps"], runs)
    card = {key: teacher.card[key] for key in ("dataset", "image_size")} | {
        "guidance_scale": 1.0,  # no second pass: it is in the weights
        "num_inference_steps": STEPS,
        "prediction_type": scheduler.config.prediction_type,
        "recipe": recipe,
        "seed": seed,
        "hardware": hardware(torch.device("cpu")),
        "threads": torch.get_num_threads(),
    }
    pipeline = StableDiffusionPipeline(
        vae=teacher.vae,
        text_encoder=teacher.text_encoder,
        tokenizer=teacher.tokenizer,
        unet=student,
        scheduler=scheduler,
        card=card,
    )
    return pipeline, trainer


def latent_batches(
    teacher: StableDiffusionPipeline, recipe: dict, steps: int, seed: int
) -> Callable[[int], Batch]:
    """step -> latents, noise, which of the `steps` timesteps, input_ids; every picture has its own
    prompt."""
    data = load_text_image("mnist", recipe["images"])
    scale = teacher.vae.config.scaling_factor
    mean, std = encode_dataset(teacher.vae, data.images)
    return denoiser_batches(
        scale * mean,
        scale * std,
        caption_of=data.caption_of,
        caption_ids=[teacher.tokenizer(texts) for texts in data.captions],
        empty_ids=teacher.tokenizer("")[0],
        prompt_dropout=recipe.get("prompt_dropout", 0.0),
        batch_size=recipe["batch_size"],
        seed=seed,
        num_train_timesteps=steps,
    )


if __name__ == "__main__":
    main()
