"""Make the shipped checkpoints again: `make weights`, about six hours on two CPU cores; it can be
interrupted. `cifar10` needs the full data set (`minildm data cifar10`).

The examiner first, then the model whose drawings it scores, then those that are made from a model.
The digits are
trained in two rounds: the second goes on where the first ended, with other batches (`AGAIN`).
Training keeps its state in runs/weights; what is shipped is written here in half precision, with
its score on thousands of drawings in its card and the checksum of every file.
"""

from dataclasses import replace
from pathlib import Path

import torch
from make_controlnet import NAME as CONTROLNET
from make_controlnet import make_controlnet
from make_lcm import latent_batches
from make_lcm import main as make_lcm
from make_one_step import main as make_one_step

from minildm import StableDiffusionPipeline
from minildm.data import load_text_image
from minildm.evaluation import evaluate
from minildm.files import write_checksums, write_json
from minildm.models import ImageClassifier
from minildm.pipelines import WEIGHTS
from minildm.schedulers import DDPMScheduler
from minildm.training import (
    PRESETS,
    DenoisingLoss,
    Recipe,
    TextConditionedUNet,
    Trainer,
    hardware,
    train,
    train_examiner,
)

RUNS = WEIGHTS.parents[1] / "runs" / "weights"
# With hours instead of minutes, a wider U-Net than the preset's draws better digits.
WIDE = {"unet": {**PRESETS["mnist"].unet, "block_out_channels": (64, 128)}}
RECIPES = PRESETS | {"mnist": replace(PRESETS["mnist"], **WIDE)}
# perceptual net, autoencoder, denoiser
STEPS = {"mnist": (300, 6000, 18000), "scenes": (1200, 3000, 8000), "cifar10": (1500, 2500, 5600)}
# What text encoder and U-Net are trained for once more, and how the result draws best.
AGAIN = {"mnist": {"seed": 1, "steps": 36000, "learning_rate": 1e-3}}
DRAWN = {"mnist": {"guidance_scale": 2.125, "guidance_start": 0.2}}
SAMPLES = {"mnist": 10_000, "scenes": 5_000, "cifar10": 2_000}  # 1,000 of each kind of scene
EXAMINER = {
    "mnist": "mnist",
    "scenes": "mnist",
    "cifar10": "cifar10",
}  # the digits in a scene are MNIST's


def main() -> None:
    """Examiner, training, half precision, score, checksums, for every shipped model."""
    for name, steps in STEPS.items():
        examiner = WEIGHTS / f"{EXAMINER[name]}-examiner"
        if not (examiner / "config.json").is_file():
            train_examiner(examiner, EXAMINER[name])
        trained = train(RECIPES[name], RUNS / name, steps=steps, resume=True, device="cpu")
        if name in AGAIN:
            train_again(trained, RECIPES[name], RUNS / f"{name}-again", **AGAIN[name])
        trained.card |= DRAWN.get(name, {})
        trained.save_pretrained(WEIGHTS / name, torch.float16)
        pipeline = StableDiffusionPipeline.from_pretrained(
            WEIGHTS / name
        )  # scored as shipped, in half precision
        scored = evaluate(
            pipeline, SAMPLES[name], examiner=ImageClassifier.from_pretrained(examiner)
        )
        print(scored)
        write_json(
            WEIGHTS / name / "minildm.json", pipeline.card | {"evaluation": scored.as_dict()}
        )
    make_lcm(RUNS)
    make_one_step(RUNS)
    make_controlnet(RUNS / CONTROLNET)
    list_checksums()


def train_again(
    pipeline: StableDiffusionPipeline,
    recipe: Recipe,
    runs: Path,
    seed: int,
    steps: int,
    learning_rate: float,
) -> None:
    """A second round for the pipeline's text encoder and U-Net: the learning rate rises and falls
    again, a warm restart (Loshchilov & Hutter 2017). It keeps its state in `runs`, and goes into
    the card."""
    vae, tokenizer = pipeline.vae, pipeline.tokenizer
    data = load_text_image(
        recipe.dataset, recipe.num_images, size=recipe.vae["sample_size"], full=recipe.full
    )
    batches = latent_batches(
        vae,
        tokenizer,
        data,
        prompt_dropout=recipe.prompt_dropout,
        batch_size=recipe.denoiser.batch_size,
        seed=seed,
    )
    predict = TextConditionedUNet(
        pipeline.unet.requires_grad_(True), pipeline.text_encoder.requires_grad_(True)
    )
    loss = DenoisingLoss(predict, DDPMScheduler(**recipe.scheduler))
    trainer = Trainer("denoiser again", loss, batches, learning_rate, ema=recipe.denoiser.ema)
    runs.mkdir(parents=True, exist_ok=True)
    trainer.train(steps, runs)
    surroundings = {"hardware": hardware(torch.device("cpu")), "threads": torch.get_num_threads()}
    settings = {"seed": seed, "steps": steps, "learning_rate": learning_rate}
    pipeline.card["again"] = {**settings, "seconds": round(trainer.seconds, 1), **surroundings}


def list_checksums() -> None:
    """SHA256SUMS of every file of every checkpoint, in the format of `sha256sum -c`."""
    files = sorted(
        file
        for file in WEIGHTS.glob("*/**/*")
        if file.is_file() and "__pycache__" not in file.parts
    )
    write_checksums(WEIGHTS, [file.relative_to(WEIGHTS).as_posix() for file in files])


if __name__ == "__main__":
    main()
