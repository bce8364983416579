"""The results of the course in one table: data set x method x seed, each trained for about a
minute, and what each choice of the `mnist` recipe is worth. Chapter 12.

    python benchmarks/results.py [CELL ...] [--runs runs/results] [--out benchmarks/results.json]

A cell is one training with one seed. Its steps are fixed, so that any machine makes the same cell;
they were chosen to take about a minute of one core, and what each did take is in the table.
Finished cells are kept in --runs: an interrupted run goes on where it was, several may share the
work, with some of the cells each, and --out is written by the one that finds all of them there.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from cells import Cells
from torch import Tensor, nn

from minildm import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
)
from minildm.data import LOADERS, TextImageDataset, from_pixels, load_text_image, to_pixels
from minildm.evaluation import (
    Pixels,
    balanced_prompts,
    balanced_subset,
    sample_as_saved,
    sample_gaussians,
    score,
)
from minildm.files import write_json
from minildm.models import ImageClassifier, extract, with_scaling_factor
from minildm.pipelines import shipped
from minildm.training import (
    PERCEPTUAL_STREAM,
    PRESETS,
    AutoencoderLoss,
    ClassifierLoss,
    DenoisingLoss,
    Recipe,
    TextConditionedUNet,
    Trainer,
    autoencoder_batches,
    classifier_batches,
    denoiser_batches,
    encode_dataset,
    hardware,
    new_denoiser,
    seeded,
)
from minildm.variations import GANDiscriminator, GANGenerator, GANTraining, sample_gan

SETTINGS = {
    "seeds": {"mnist": [0, 1, 2], "cifar10": [0, 1, 2]},
    "images": 20_000,  # to learn from, at most: encoding them is a part of the minute
    "samples": 500,
    "steps": {  # of training, by data set
        "mnist": {
            "perceptual_net": 100,
            "autoencoder": 130,
            "all autoencoder": 350,
            "denoiser": 240,
            "all denoiser": 430,
        }
        | {"pixels": 280, "gan": 400},
        "cifar10": {
            "perceptual_net": 50,
            "autoencoder": 70,
            "all autoencoder": 195,
            "denoiser": 90,
            "all denoiser": 155,
        }
        | {"pixels": 260, "gan": 400},
    },
    "guidance": {"mnist": [1.0, 1.75, 3.0], "cifar10": [1.0, 3.0, 7.0]},
    "num_inference_steps": [
        10,
        4,
    ],  # the guidances are swept at the first, the second is taken at the middle one
}
# Where pixels are the latents: narrow where the picture is large, and attention to the text where
# it is small.
PIXEL_UNET = {
    "sample_size": 32,
    "block_out_channels": (8, 16, 32, 64),
    "down_block_types": ("DownBlock2D",) * 3 + ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",) + ("UpBlock2D",) * 3,
}
MNIST = PRESETS["mnist"]


class Data(NamedTuple):
    """What a method learns from, and what it is scored with."""

    name: str
    dataset: TextImageDataset
    examiner: ImageClassifier
    reference: Tensor
    prompts: list[str]
    asked: Tensor


@cache
def load(name: str) -> Data:
    examiner = ImageClassifier.from_pretrained(shipped(f"{name}-examiner")).eval()
    reference = extract(examiner, LOADERS[name]("test").images)[0]
    return Data(
        name,
        load_text_image(name, SETTINGS["images"]),
        examiner,
        reference,
        *balanced_prompts(name, SETTINGS["samples"]),
    )


def scores(data: Data, pictures: Tensor) -> dict[str, float]:
    """Of pictures (N, C, H, W) of the classes asked for, as they would be saved."""
    saved = from_pixels(to_pixels(pictures, PRESETS[data.name].image_size))
    found = score(data.examiner, saved, data.asked, data.reference)
    return {key: round(value, 5) for key, value in asdict(found).items()}


def count(*networks: nn.Module) -> int:
    return sum(p.numel() for network in networks for p in network.parameters())


# Parts of the chain


def train_autoencoder(data: Data, recipe: Recipe, steps: int, seed: int) -> AutoencoderKL:
    """The perceptual net and then the autoencoder, as `train` trains them."""
    images, labels = data.dataset.images, data.dataset.labels
    perceptual_net = seeded(seed, ImageClassifier, recipe.classifier)
    stage = recipe.perceptual_net
    batches = classifier_batches(
        images, labels, stream=PERCEPTUAL_STREAM, batch_size=stage.batch_size, seed=seed
    )
    loss = ClassifierLoss(perceptual_net)
    trainer = Trainer("perceptual_net", loss, batches, learning_rate=stage.learning_rate)
    trainer.train(SETTINGS["steps"][data.name]["perceptual_net"], progress=False)

    vae = seeded(seed, AutoencoderKL, recipe.vae)
    side = images.shape[-1] // vae.downscale_factor
    stage = recipe.autoencoder
    batches = autoencoder_batches(
        images,
        latent_shape=(vae.config.latent_channels, side, side),
        batch_size=stage.batch_size,
        seed=seed,
    )
    loss = AutoencoderLoss(vae, perceptual_net, recipe.perceptual_weight, recipe.kl_weight)
    trainer = Trainer("autoencoder", loss, batches, learning_rate=stage.learning_rate)
    trainer.train(steps, progress=False)
    return vae


def train_denoiser(
    data: Data, recipe: Recipe, vae: nn.Module, steps: int, seed: int, weighting: str | None = None
) -> StableDiffusionPipeline:
    """U-Net and text encoder in the latents of `vae`, as `train` trains them."""
    dataset, stage = data.dataset, recipe.denoiser
    mean, std = encode_dataset(vae, dataset.images, progress=False)
    if isinstance(vae, AutoencoderKL):
        vae = with_scaling_factor(vae, 1 / (mean.var() + std.square().mean()).sqrt().item())
    scale, channels = vae.config.scaling_factor, vae.config.latent_channels
    tokenizer, text_encoder, unet = new_denoiser(recipe, dataset.texts, channels, seed)
    batches = denoiser_batches(
        scale * mean,
        scale * std,
        caption_of=dataset.caption_of,
        caption_ids=[tokenizer(texts) for texts in dataset.captions],
        empty_ids=tokenizer("")[0],
        prompt_dropout=recipe.prompt_dropout,
        batch_size=stage.batch_size,
        seed=seed,
    )
    predict = TextConditionedUNet(unet, text_encoder)
    loss = DenoisingLoss(predict, DDPMScheduler(**recipe.scheduler), weighting)
    trainer = Trainer("denoiser", loss, batches, stage.learning_rate, ema=stage.ema)
    trainer.train(steps, progress=False)
    scheduler = DPMSolverMultistepScheduler(**recipe.scheduler)
    card = {"dataset": data.name}
    return StableDiffusionPipeline(vae, text_encoder, tokenizer, unet, scheduler, card)


def in_the_pipeline(space: nn.Module, channels: int, factor: int) -> nn.Module:
    """A space without an autoencoder's configuration, in the autoencoder's place."""
    space.config = SimpleNamespace(latent_channels=channels, scaling_factor=1.0, shift_factor=0.0)
    space.downscale_factor = factor
    return space


def drawn(
    data: Data, pipeline: StableDiffusionPipeline, guidance: float, steps: int
) -> dict[str, Any]:
    """One line of the table: what the pipeline draws with this guidance in so many steps."""
    generator, start = torch.Generator().manual_seed(0), time.process_time()
    size = PRESETS[data.name].image_size
    pictures = sample_as_saved(
        pipeline, data.prompts, steps, guidance, generator, progress=False, size=size
    )[0]
    seconds = time.process_time() - start
    return (
        {"guidance": guidance, "num_inference_steps": steps}
        | at(seconds, pictures)
        | scores(data, pictures)
    )


def at(seconds: float, pictures: Tensor) -> dict[str, float]:
    return {"milliseconds": round(1000 * seconds / len(pictures), 2)}


# The methods. Each takes the data and a seed, trains, and returns what draws, and a line for each
# way to draw


class Trained(NamedTuple):
    networks: tuple[nn.Module, ...]
    draw: Callable[[], list[dict[str, Any]]]


def class_means(data: Data, seed: int) -> Trained:
    """The mean training picture of the class: what the squared error alone would like best."""
    images, labels = data.dataset.images, data.dataset.labels
    means = torch.stack([images[labels == label].mean(0) for label in range(10)])
    return Trained((), lambda: [at(0, data.asked) | scores(data, means[data.asked])])


def vae_bells(data: Data, seed: int) -> Trained:
    """An autoencoder, and for each class the normal distribution of its latents' mean and
    covariance."""
    recipe, steps = PRESETS[data.name], SETTINGS["steps"][data.name]["all autoencoder"]
    vae = train_autoencoder(data, recipe, steps, seed)
    mean, _ = encode_dataset(vae, data.dataset.images, progress=False)

    @torch.no_grad()
    def draw():
        generator, start = torch.Generator().manual_seed(0), time.process_time()
        z = sample_gaussians(mean.flatten(1), data.dataset.labels, data.asked, generator).unflatten(
            1, mean.shape[1:]
        )
        pictures = vae.decode(z)
        return [at(time.process_time() - start, pictures) | scores(data, pictures)]

    return Trained((vae.decoder,), draw)


def diffusion(data: Data, recipe: Recipe, pipeline: StableDiffusionPipeline) -> Trained:
    """A line for each guidance, and at the recipe's own a line for each number of steps."""
    usual = SETTINGS["guidance"][data.name]
    many, few = SETTINGS["num_inference_steps"]
    ways = [(g, many) for g in usual] + [(usual[1], few)]
    decoder = getattr(pipeline.vae, "decoder", pipeline.vae)
    return Trained(
        (pipeline.unet, pipeline.text_encoder, decoder),
        lambda: [drawn(data, pipeline, g, n) for g, n in ways],
    )


def pixel_diffusion(data: Data, seed: int) -> Trained:
    """The same recipe with pixels for latents."""
    recipe, channels = PRESETS[data.name], data.dataset.images.shape[1]
    recipe = replace(
        recipe,
        unet={**recipe.unet, **PIXEL_UNET},
        denoiser=replace(recipe.denoiser, batch_size=32),
    )
    steps = SETTINGS["steps"][data.name]["pixels"]
    return diffusion(
        data,
        recipe,
        train_denoiser(data, recipe, in_the_pipeline(Pixels(), channels, 1), steps, seed),
    )


def latent_diffusion(data: Data, seed: int) -> Trained:
    """The whole chain from random weights, a third of the time for the autoencoder."""
    recipe, steps = PRESETS[data.name], SETTINGS["steps"][data.name]
    vae = train_autoencoder(data, recipe, steps["autoencoder"], seed)
    return diffusion(data, recipe, train_denoiser(data, recipe, vae, steps["denoiser"], seed))


def on_shipped_latents(
    data: Data, seed: int, weighting: str | None = None, **changes: Any
) -> Trained:
    """All of the time for the U-Net: the autoencoder is the shipped one, whose own training is not
    counted; with `changes` of the recipe."""
    recipe, steps = (
        replace(PRESETS[data.name], **changes),
        SETTINGS["steps"][data.name]["all denoiser"],
    )
    vae = StableDiffusionPipeline.from_pretrained(data.name).vae
    return diffusion(data, recipe, train_denoiser(data, recipe, vae, steps, seed, weighting))


def gan(data: Data, seed: int) -> Trained:
    """Chapter 13's in its default setting; it draws with the average of its weights."""
    images, labels = data.dataset.images, data.dataset.labels
    channels = images.shape[1]
    torch.manual_seed(seed)
    players = GANGenerator(out_channels=channels), GANDiscriminator(in_channels=channels)
    training = GANTraining(*players, images, labels, seed)
    generator = training.run(SETTINGS["steps"][data.name]["gan"], progress=False).averaged()

    def draw():
        start = time.process_time()
        pictures = sample_gan(generator, data.asked, torch.Generator().manual_seed(0))
        return [at(time.process_time() - start, pictures) | scores(data, pictures)]

    return Trained((generator,), draw)


METHODS = {
    "class means": class_means,
    "VAE": vae_bells,
    "GAN": gan,
    "diffusion in pixels": pixel_diffusion,
    "latent diffusion": latent_diffusion,
    "latent diffusion, shipped autoencoder": on_shipped_latents,
}
# What becomes of the recipe of `mnist` when one thing is changed. What they compare with: the
# method's own line.
LINEAR = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
ABLATIONS: dict[str, tuple[Callable[..., Trained], dict[str, Any]]] = {
    "schedule: scaled linear": (on_shipped_latents, {"scheduler": {**MNIST.scheduler, **LINEAR}}),
    "predicts: noise": (
        on_shipped_latents,
        {"scheduler": {**MNIST.scheduler, "prediction_type": "epsilon"}},
    ),
    "predicts: x0": (
        on_shipped_latents,
        {"scheduler": {**MNIST.scheduler, "prediction_type": "sample"}},
    ),
    "loss weighs as: min-SNR": (on_shipped_latents, {"weighting": "min_snr"}),
    "EMA: none": (on_shipped_latents, {"ema": 0.0}),
}


def all_cells() -> dict[str, tuple[str, str, int]]:
    """Name of a cell -> data set, method or ablation, seed."""
    arms = [(dataset, method) for dataset in SETTINGS["steps"] for method in METHODS]
    arms += [("mnist", ablation) for ablation in ABLATIONS]
    by_seed = sorted(
        ((seed, d, a) for d, a in arms for seed in SETTINGS["seeds"][d]), key=lambda cell: cell[0]
    )
    return {f"{d} {a} {s}".replace(":", ""): (d, a, s) for s, d, a in by_seed}


def measure(dataset: str, arm: str, seed: int) -> dict[str, Any]:
    """Train one arm with one seed, and score what it draws."""
    data = load(dataset)
    train, options = ABLATIONS.get(arm) or (METHODS[arm], {})
    start = time.process_time()
    networks, draw = train(data, seed, **options)
    seconds = round(time.process_time() - start, 1)
    heading = {
        "dataset": dataset,
        "arm": arm,
        "seed": seed,
        "seconds": seconds,
        "parameters": count(*networks),
    }
    return {**heading, "rows": draw()}


def floor(dataset: str) -> dict[str, float]:
    """The scores of as many real training pictures."""
    data = load(dataset)
    train = LOADERS[dataset]("train")
    chosen = balanced_subset(train.labels, SETTINGS["samples"])
    found = score(data.examiner, train.images[chosen], train.labels[chosen], data.reference)
    return {key: round(value, 5) for key, value in asdict(found).items()}


def table(cells: list[dict], floors: dict[str, dict]) -> str:
    """A line for each data set, arm and way to draw: the mean over the seeds, and half the
    range."""
    lines = [
        f"{'data':9}{'arm':39}{'guid.':>6}{'steps':>6}{'CPU s':>7}{'ms':>8}{'right':>16}"
        f"{'Fréchet / floor':>20}"
    ]
    arms = dict.fromkeys((cell["dataset"], cell["arm"]) for cell in cells)
    for dataset, arm in arms:
        same = [cell for cell in cells if (cell["dataset"], cell["arm"]) == (dataset, arm)]
        for rows in zip(*(cell["rows"] for cell in same), strict=True):
            right = [row["accuracy"] for row in rows]
            far = [row["frechet"] / floors[dataset]["frechet"] for row in rows]
            lines.append(
                f"{dataset:9}{arm:39}{rows[0].get('guidance', ''):>6}"
                f"{rows[0].get('num_inference_steps', ''):>6}"
                f"{sum(cell['seconds'] for cell in same) / len(same):7.0f}"
                f"{sum(row['milliseconds'] for row in rows) / len(rows):8.2f}"
                f"{sum(right) / len(right):9.1%} ± {(max(right) - min(right)) / 2:4.1%}"
                f"{sum(far) / len(far):12.2f} ± {(max(far) - min(far)) / 2:5.2f}"
            )
    return "\n".join(lines)


def main() -> None:
    known = all_cells()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "cells", nargs="*", metavar="CELL", help="some of the cells only (default: all)"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if unknown := set(options.cells) - set(known):
        parser.error(f"expected cells of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    try:
        cells = Cells(options.runs, SETTINGS)
    except ValueError as error:
        parser.error(str(error))
    for name in options.cells or known:
        cells.measure(name, lambda cell=known[name]: measure(*cell))
    if missing := cells.missing(known):
        print(f"{options.out} is not written: {len(missing)} cells to come, {missing[0]} first")
        return
    measured, floors = cells.read(known), {dataset: floor(dataset) for dataset in SETTINGS["steps"]}
    surroundings = {"hardware": hardware(torch.device("cpu")), "threads": torch.get_num_threads()}
    write_json(
        options.out, {"settings": SETTINGS, **surroundings, "floors": floors, "cells": measured}
    )
    print(table(measured, floors))


if __name__ == "__main__":
    main()
